//! Length of a socket's send queue.

use std::ffi::c_int;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::ioctl::{Getter, Opcode, ioctl};

/// The request SIOCOUTQ, which has the same number as TIOCOUTQ (linux/sockios.h).
#[allow(clippy::cast_possible_truncation, reason = "requests have 32 bits, whatever type libc gives them")]
const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Returns the bytes that were written to a socket and that its peer has not acknowledged (tcp(7) and unix(7), `SIOCOUTQ`), or 0
/// if the descriptor has no such queue. The descriptor must stay open during the call.
#[expect(unsafe_code, reason = "the socket has another owner, and there is no safe call for this request")]
pub(super) fn unacknowledged(socket: RawFd) -> u64 {
    // SAFETY: the request writes one int, whatever the descriptor is.
    let unacknowledged = unsafe { ioctl(BorrowedFd::borrow_raw(socket), Getter::<OUTQ, c_int>::new()) };
    unacknowledged.ok().and_then(|unacknowledged| u64::try_from(unacknowledged).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn bytes_that_the_peer_does_not_read_stay_in_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(sender.as_raw_fd()), 0);
        sender.set_nonblocking(true).unwrap();
        while sender.write(&[7; 16 << 10]).is_ok() {}
        let full = unacknowledged(sender.as_raw_fd());
        assert!(full > 0);
        sender.shutdown(std::net::Shutdown::Write).unwrap();
        while receiver.read(&mut [0; 16 << 10]).unwrap() > 0 {}
        assert!(unacknowledged(sender.as_raw_fd()) < full);
    }
}
