//! Tests of the verifier and of fetched keys.

mod issuer;
mod keys;
mod remote;
mod verify;
