//! The allocator of the static binaries. musl's own has one lock and keeps little: where threads allocate and free for each other it is
//! several times slower than glibc's, which serves a build for glibc well. docs/deploy.md has the figures.

#[cfg(all(target_env = "musl", not(feature = "rusty-alloc")))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(all(target_env = "musl", feature = "rusty-alloc"))]
#[global_allocator]
static ALLOCATOR: rusty_alloc_api::RustyAlloc = rusty_alloc_api::RustyAlloc;
