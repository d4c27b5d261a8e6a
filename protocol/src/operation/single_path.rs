//! Operations whose only argument is one store path.

use bytes::BytesMut;

use super::codec::{Operation, put_path};
use super::opcode::{Opcode, UnsupportedOperation};
use crate::path_info::{PathInfo, UNKEYED};
use crate::session::Session;
use crate::store_path::StorePath;
use crate::wire::{DecodeError, Reader, STRINGS, Schema, Shape, field};

/// Defines a type for such an operation: its reply, the only field of the reply, and how that is decoded.
macro_rules! single_path_operation {
    ($(#[$doc:meta])* $name:ident -> $reply:ty, $layout:expr, $decode:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<'a>(pub &'a StorePath);

        impl Operation for $name<'_> {
            type Reply = $reply;
            const OPCODE: Opcode = Opcode::$name;

            fn encode(&self, session: &Session, out: &mut BytesMut) -> Result<(), UnsupportedOperation> {
                put_path(out, session, self.0);
                Ok(())
            }

            fn reply_schema(&self, _: &Session) -> Schema {
                const { &[$layout] }
            }

            fn decode(&self, session: &Session, reader: &mut Reader<'_>) -> Result<$reply, DecodeError> {
                let decode: fn(&Session, &mut Reader<'_>) -> Result<$reply, DecodeError> = $decode;
                decode(session, reader)
            }
        }
    };
}

single_path_operation! {
    /// Asks whether a path is valid.
    IsValidPath -> bool, field("valid", Shape::U64), |_, reader| reader.bool("valid")
}

single_path_operation! {
    /// Asks for the path info of a path. The reply is `None` if the path is not valid.
    QueryPathInfo -> Option<PathInfo>, field("valid", Shape::Flag(UNKEYED)), |session, reader| {
        if reader.bool("valid")? { PathInfo::decode(reader, &session.store, session.known_keys()).map(Some) } else { Ok(None) }
    }
}

single_path_operation! {
    /// Asks for the valid paths that refer to a path. The reply is empty if the path is not valid.
    QueryReferrers -> Vec<StorePath>, field("referrers", STRINGS), |session, reader| {
        reader.store_paths(&session.store, "referrers")
    }
}

single_path_operation! {
    /// Asks for the valid derivations that have a path as an output. The reply is empty if there are none.
    QueryValidDerivers -> Vec<StorePath>, field("derivers", STRINGS), |session, reader| {
        reader.store_paths(&session.store, "derivers")
    }
}

single_path_operation! {
    /// Adds a temporary GC root: protects a path, valid or not, from the garbage collector until the *connection* ends.
    AddTempRoot -> (), field("done", Shape::U64), |_, reader| reader.u64("done").map(drop)
}

single_path_operation! {
    /// Makes a path valid by substitution if it is not. May take as long as a download.
    EnsurePath -> (), field("done", Shape::U64), |_, reader| reader.u64("done").map(drop)
}
