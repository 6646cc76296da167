//! The allocator. A master may keep thousands of idle sessions, and rushes come and go: what it frees goes back to the host, and few threads' caches
//! keep little. The C library's would make pools for each thread that reads the database or a file, and give back only what lies at their ends; it
//! stays with what is written in C, and makes no more pools than there are cores.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A pool for each core; what is free for a tenth of a second goes back; a thread keeps small pieces only, and few.
/// `_RJEM_MALLOC_CONF` in the environment counts for more.
#[allow(unsafe_code)]
// SAFETY: the allocator reads a C string under this name, and no other symbol has it.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static SETTINGS: Option<&'static std::ffi::c_char> = Some({
    let text: &std::ffi::CStr =
        c"percpu_arena:percpu,background_thread:true,dirty_decay_ms:100,muzzy_decay_ms:0,tcache_max:4096,lg_tcache_nslots_mul:-1";
    // SAFETY: a C string has a first byte.
    unsafe { &*text.as_ptr() }
});

/// Before the first thread.
#[cfg(target_env = "gnu")]
pub fn few_pools() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pools = i32::try_from(cores).unwrap_or(i32::MAX);
    // SAFETY: sets one number in the C library; no other thread allocates yet.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, pools)
    };
}

#[cfg(not(target_env = "gnu"))]
pub fn few_pools() {}
