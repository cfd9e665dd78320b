//! The allocator of the static binaries. musl's own, with one lock and little that it keeps, is several times slower where threads
//! allocate and free for each other; glibc's serves a build for glibc well.

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
