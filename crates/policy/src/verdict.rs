//! The verdict: what the policies of a container make of one use of one file.
//!
//! This is the reference. The kernel programs compute the same on the encoded tables and are tested against it.

use mooring_crd::{Reason, Verdict};

use crate::mask::{Slot, SlotMask};
use crate::rules::RuleSet;

/// What a file is to a container. The numbers are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// The image brought it, with this content.
    Image = 0,
    /// The image did not bring it.
    NewBinary = 1,
    /// The image brought it with another content.
    ModifiedBinary = 2,
    /// It is on a declared volume.
    VolumeBinary = 3,
    /// It is anonymous, or has no link left.
    Fileless = 4,
    /// It is on a mount that is neither the root nor declared.
    ForeignMount = 5,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All, by number.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Image, Self::NewBinary, Self::ModifiedBinary, Self::VolumeBinary, Self::Fileless, Self::ForeignMount];

    /// Its number.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason that an execution of such a file violates a policy; none for the image's own.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Image => None,
            Self::NewBinary => Some(Reason::NewBinary),
            Self::ModifiedBinary => Some(Reason::ModifiedBinary),
            Self::VolumeBinary => Some(Reason::VolumeBinary),
            Self::Fileless => Some(Reason::Fileless),
            Self::ForeignMount => Some(Reason::ForeignMount),
        }
    }
}

/// What is done with a file. The numbers are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Use {
    /// It is executed.
    Execute = 0,
    /// It is mapped executable.
    Map = 1,
}

impl Use {
    /// How many there are.
    pub const COUNT: usize = 2;
    /// All, by number.
    pub const ALL: [Self; Self::COUNT] = [Self::Execute, Self::Map];

    /// Its number.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One name of a file, as far as the kernel could find it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Name<'a> {
    /// There is no such name.
    #[default]
    None,
    /// The name. One of more than 255 bytes is in no list.
    Path(&'a [u8]),
    /// Longer than 255 bytes: it is in no list.
    TooLong,
    /// It could not be found out: it counts as prohibited, and never as excepted.
    Unresolved,
}

/// One use of one file by a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt<'a> {
    /// The slots of the container's policies.
    pub member: SlotMask,
    /// What is done with the file.
    pub usage: Use,
    /// What the file is to the container.
    pub class: Class,
    /// Its path in the container. On a foreign mount it counts for nothing: whoever may mount could give it any.
    pub path: Name<'a>,
    /// The path that it had in the image, where it is another.
    pub lower_path: Name<'a>,
    /// The name that it was invoked with, where it is another; `Name::None` for a mapping.
    pub invoked: Name<'a>,
    /// Its path (in the image, where it has one), `/`, and the last component of the name that it was invoked with; see
    /// [`RuleSet::prohibit_alias`]. `Name::None` for a mapping.
    pub alias: Name<'a>,
    /// The program that executes it; `None` where that is not known (it has become the new one already), and for a mapping.
    pub caller: Option<Program<'a>>,
}

/// A program that executes another: the file that its process runs, which it cannot choose the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program<'a> {
    /// What its file is to the container.
    pub class: Class,
    /// Its path in the container.
    pub path: Name<'a>,
    /// The path that it has in the image; `Name::None` where its file is in no image.
    pub lower_path: Name<'a>,
}

impl Program<'_> {
    /// The slots for which it may execute drifted files: it is the image's own, and was at that path in the image.
    fn excepted(&self, rules: &RuleSet) -> SlotMask {
        let own = if self.lower_path == Name::None { self.path } else { self.lower_path };
        match (self.class, own) {
            (Class::Image, Name::Path(path)) => rules.path(path).excepted_process,
            _ => SlotMask::EMPTY,
        }
    }

    /// The slots for which it may execute nothing, whatever became of its file. A foreign mount's is in no list.
    fn prohibited(&self, rules: &RuleSet) -> SlotMask {
        if self.class == Class::ForeignMount {
            return SlotMask::EMPTY;
        }
        let names = [self.path, self.lower_path].map(|name| match name {
            Name::Path(path) => rules.path(path).prohibited_process,
            Name::Unresolved => rules.prohibit_process_lists(),
            Name::None | Name::TooLong => SlotMask::EMPTY,
        });
        names[0] | names[1]
    }
}

/// What the policies make of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The slots that regard it as drift.
    pub drift: SlotMask,
    /// The slots that prohibit it.
    pub prohibited: SlotMask,
    /// The slots that prohibit whatever the program executes that does it.
    pub prohibited_process: SlotMask,
    /// The slots that are violated: any of the three.
    pub violating: SlotMask,
    /// The violated slots that prevent. One is enough.
    pub denied: SlotMask,
}

/// Judges an attempt.
#[must_use]
pub fn judge(rules: &RuleSet, attempt: &Attempt<'_>) -> Judgement {
    // The first two are the file's own. The others are what it was invoked by, and a mapping invokes nothing.
    let asked = if attempt.usage == Use::Execute { usize::MAX } else { 2 };
    let path = if attempt.class == Class::ForeignMount { Name::None } else { attempt.path };
    let excepted = match path {
        Name::Path(path) => rules.path(path).excepted,
        Name::None | Name::TooLong | Name::Unresolved => SlotMask::EMPTY,
    };
    let listed = [path, attempt.lower_path, attempt.invoked, attempt.alias]
        .into_iter()
        .take(asked)
        .map(|name| match name {
            Name::Path(path) => rules.path(path).prohibited,
            Name::Unresolved => rules.prohibit_lists(),
            Name::None | Name::TooLong => SlotMask::EMPTY,
        })
        .fold(SlotMask::EMPTY, |all, mask| all | mask);
    let caller = attempt.caller.as_ref().filter(|_| attempt.usage == Use::Execute);
    let excepted = excepted | caller.map_or(SlotMask::EMPTY, |caller| caller.excepted(rules));
    let drift = attempt.member & rules.detects(attempt.usage, attempt.class) & !excepted;
    let prohibited = attempt.member & listed;
    let prohibited_process = attempt.member & caller.map_or(SlotMask::EMPTY, |caller| caller.prohibited(rules));
    let violating = drift | prohibited | prohibited_process;
    Judgement { drift, prohibited, prohibited_process, violating, denied: violating & rules.prevents() }
}

impl Judgement {
    /// What becomes of the attempt; `None` where nothing is violated.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        if !self.denied.is_empty() {
            Some(Verdict::Denied)
        } else if !self.violating.is_empty() {
            Some(Verdict::Detected)
        } else {
            None
        }
    }

    /// The reason that one slot is violated; `None` where it is not.
    #[must_use]
    pub fn reason(&self, slot: Slot, usage: Use, class: Class) -> Option<Reason> {
        let prohibited = self.prohibited.contains(slot);
        match (self.drift.contains(slot), usage) {
            (true, Use::Execute) => class.reason(),
            _ if prohibited => Some(Reason::ProhibitedBinary),
            (false, _) => self.prohibited_process.contains(slot).then_some(Reason::ProhibitedProcess),
            (true, Use::Map) => Some(Reason::DriftedLibrary),
        }
    }
}
