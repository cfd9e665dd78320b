//! The allocator of the static binaries. musl's own takes one lock for everything and fetches from the system anew what it has just given
//! back, which costs the transport and the worker several times as much; glibc's serves a build for glibc well.

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
