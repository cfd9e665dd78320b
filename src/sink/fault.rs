//! The steps on disk by name, so that the tests can let each of them fail, or end the process before it or after it.
//!
//! Outside of this crate's own tests a step is the operation and nothing else.

#[cfg(not(test))]
use std::io;

/// A step that changes what is on disk, or makes it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Point {
    /// The probe that a folder can be written.
    Probe,
    /// A file that is written once and for all, before it gets its name; then its sync, its name, and the end of the old one.
    WriteOnce,
    SyncOnce,
    NameOnce,
    RemoveAttempt,
    SyncNames,
    /// A directory, and the one above it.
    CreateDirectory,
    SyncParent,
    /// The place of a segment that is to be written.
    ClearWriting,
    CreateFile,
    /// A part of a segment's rows, and its sync.
    WriteRows,
    SyncRows,
    SyncWriting,
    /// The place of a segment that is to be sealed.
    ClearSealed,
    Seal,
    SyncSealed,
    /// What is not wanted any more.
    RemoveWriting,
    RemoveSealed,
    /// A final name.
    Publish,
    SyncPublished,
    MarkPublished,
    EmptyMark,
    RemoveMark,
}

/// Does a step.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step<T>(_: Point, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    operation()
}

/// Does a step that a crash may leave half done.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step_or_half<T>(
    _: Point,
    whole: impl FnOnce() -> io::Result<T>,
    _half: impl FnOnce() -> io::Result<()>,
) -> io::Result<T> {
    whole()
}

#[cfg(test)]
pub(crate) use armed::{Fault, are_all_done, arm, end_crash, has_crashed, hits, step, step_or_half};

#[cfg(test)]
mod armed {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::io;

    use super::Point;

    /// What happens at a step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// The process ends before the step. From then on nothing that it does reaches the disk.
        CrashBefore,
        CrashAfter,
        /// The process ends when the step is half done, if it can be.
        CrashWithin,
        /// The system refuses, with this number.
        Refused(i32),
    }

    impl Fault {
        pub(crate) const NO_SPACE: Self = Self::Refused(28);
        pub(crate) const IO_ERROR: Self = Self::Refused(5);
        pub(crate) const ALL: [Self; 5] =
            [Self::CrashBefore, Self::CrashAfter, Self::CrashWithin, Self::NO_SPACE, Self::IO_ERROR];
    }

    /// Of a test's own thread.
    #[derive(Debug, Default)]
    struct Armed {
        faults: Vec<(Point, Fault, usize)>,
        hits: BTreeMap<Point, usize>,
        crashed: bool,
    }

    thread_local! {
        static ARMED: RefCell<Armed> = RefCell::default();
    }

    /// From now on the steps at `point` are counted, and the `nth` of them from here on, from 0, has a fault.
    pub(crate) fn arm(faults: impl IntoIterator<Item = (Point, Fault, usize)>) {
        ARMED.with_borrow_mut(|armed| *armed = Armed { faults: faults.into_iter().collect(), ..Armed::default() });
    }

    /// How often each point was met since the last arming.
    pub(crate) fn hits() -> BTreeMap<Point, usize> {
        ARMED.with_borrow(|armed| armed.hits.clone())
    }

    /// Whether every fault has come.
    pub(crate) fn are_all_done() -> bool {
        ARMED.with_borrow(|armed| armed.faults.is_empty())
    }

    /// Whether the process has ended, by a fault.
    pub(crate) fn has_crashed() -> bool {
        ARMED.with_borrow(|armed| armed.crashed)
    }

    /// What comes now is another process.
    pub(crate) fn end_crash() {
        ARMED.with_borrow_mut(|armed| armed.crashed = false);
    }

    pub(crate) fn step<T>(point: Point, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        step_or_half(point, operation, || Ok(()))
    }

    pub(crate) fn step_or_half<T>(
        point: Point,
        whole: impl FnOnce() -> io::Result<T>,
        half: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<T> {
        match due(point)? {
            Some(Fault::CrashBefore) => Err(crash()),
            Some(Fault::CrashWithin) => half().and_then(|()| Err(crash())),
            Some(Fault::CrashAfter) => whole().and_then(|_| Err(crash())),
            Some(Fault::Refused(number)) => Err(io::Error::from_raw_os_error(number)),
            None => whole(),
        }
    }

    /// The fault of this step; an error if the process has ended.
    fn due(point: Point) -> io::Result<Option<Fault>> {
        ARMED.with_borrow_mut(|armed| {
            if armed.crashed {
                return Err(io::Error::other("the process has ended"));
            }
            *armed.hits.entry(point).or_default() += 1;
            let mut due = None;
            armed.faults.retain_mut(|(at, fault, before)| {
                if *at != point {
                    return true;
                }
                if *before == 0 {
                    due = due.or(Some(*fault));
                    return false;
                }
                *before -= 1;
                true
            });
            Ok(due)
        })
    }

    fn crash() -> io::Error {
        ARMED.with_borrow_mut(|armed| armed.crashed = true);
        io::Error::other("the process ends here")
    }
}
