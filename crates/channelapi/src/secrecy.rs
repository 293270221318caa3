//! Keeps the memory of the server, and the variables it was started with, from other processes of its user and from cores.

use tracing::warn;

/// Forbids cores, and attaching to the process or reading its memory and variables, to everybody but root.
pub(crate) fn keep() {
    if let Err(error) = rlimit::Resource::CORE.set(0, 0) {
        warn!(%error, "cores cannot be forbidden; they would hold keys and tokens");
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            warn!(%error, "other processes of this user may read the memory of this one");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_of_the_memory_leaves_the_process() {
        super::keep();
        assert_eq!(rlimit::Resource::CORE.get().unwrap(), (0, 0));
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{DumpableBehavior, dumpable_behavior};
            assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        }
    }
}
