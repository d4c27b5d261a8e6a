//! How much of what was written to a socket its peer has not taken yet.

use std::ffi::c_int;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::ioctl::{Getter, Opcode, ioctl};

/// The question for the length of the send queue: SIOCOUTQ, which is the same number (linux/sockios.h).
#[allow(clippy::cast_possible_truncation, reason = "requests have 32 bits, whatever type libc gives them")]
const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Bytes in the socket's send queue: written, and not yet acknowledged by the peer (tcp(7) and unix(7), `SIOCOUTQ`). 0 for what
/// has no such queue. The descriptor must be open for as long as this takes.
#[expect(unsafe_code, reason = "the socket is another's, and the system has no other form for this question")]
pub(super) fn queued(socket: RawFd) -> u64 {
    // SAFETY: it writes one int, of whatever the descriptor is.
    let queued = unsafe { ioctl(BorrowedFd::borrow_raw(socket), Getter::<OUTQ, c_int>::new()) };
    queued.ok().and_then(|queued| u64::try_from(queued).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn what_the_peer_does_not_read_stays_in_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(queued(sender.as_raw_fd()), 0);
        sender.set_nonblocking(true).unwrap();
        while sender.write(&[7; 16 << 10]).is_ok() {}
        let full = queued(sender.as_raw_fd());
        assert!(full > 0);
        sender.shutdown(std::net::Shutdown::Write).unwrap();
        while receiver.read(&mut [0; 16 << 10]).unwrap() > 0 {}
        assert!(queued(sender.as_raw_fd()) < full);
    }
}
