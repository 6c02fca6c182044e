//! The containers that are open around a place, and which member of each is being read.
//!
//! A message may nest deeper than its members that matter stand: beyond those, a bit for each container is enough.

use ostler_core::limits::JSON_DEPTH_MAX;

use super::field::{Field, Place};

/// Of the containers in which a member can matter, `_meta` of a batch's message is the innermost: batch, message, `params`,
/// `_meta`; and what is around them all.
const FRAMES: usize = 5;

const _: () = assert!(JSON_DEPTH_MAX <= u64::BITS as usize);

pub(super) struct Nesting {
    depth: usize,
    /// A bit for each open container, the innermost lowest: it is an object.
    objects: u64,
    /// The innermost container.
    pub here: Frame,
    /// Those around it, outermost first.
    around: [Frame; FRAMES],
}

/// A container: what it is, and the member that is being read in it, with the place where its value begins.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub place: Place,
    pub field: Field,
    pub start: usize,
}

// === impl Nesting ===

impl Nesting {
    /// Around the outermost value, which is a message unless it is a batch.
    pub fn new() -> Self {
        let frame = Frame { place: Place::Elsewhere, field: Field::Message, start: 0 };
        Nesting { depth: 0, objects: 0, here: frame, around: [frame; FRAMES] }
    }

    pub fn is_outermost(&self) -> bool {
        self.depth == 0
    }

    pub fn in_object(&self) -> bool {
        self.objects & 1 != 0
    }

    /// False if there are too many already.
    #[inline]
    pub fn enter(&mut self, object: bool, place: Place, field: Field) -> bool {
        if self.depth == JSON_DEPTH_MAX {
            return false;
        }
        if let Some(around) = self.around.get_mut(self.depth) {
            *around = self.here;
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        self.here = Frame { place, field, start: 0 };
        true
    }

    #[inline]
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
        let elsewhere = Frame { place: Place::Elsewhere, field: Field::Other, start: 0 };
        self.here = self.around.get(self.depth).copied().unwrap_or(elsewhere);
    }
}
