use std::fs;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, bail, ensure};
use bench_kit::{Plan, Receiver, Sender, Transport, buffer};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrLike, UnixAddr, bind, connect,
    getsockopt, listen, recv, send, setsockopt, socket, sockopt,
};

/// A kind of socket.
pub(crate) trait Kind {
    /// What it is called.
    const NAME: &'static str;
    const FAMILY: AddressFamily;
    const TYPE: SockType;
}

/// Unix sockets for bytes.
pub(crate) struct Stream;

/// Unix sockets for messages, with a connection.
pub(crate) struct SeqPacket;

/// Unix sockets for messages, without a connection.
pub(crate) struct Datagram;

/// TCP through the loopback device, without Nagle's delay.
pub(crate) struct Tcp;

impl Kind for Stream {
    const NAME: &'static str = "unix stream";
    const FAMILY: AddressFamily = AddressFamily::Unix;
    const TYPE: SockType = SockType::Stream;
}

impl Kind for SeqPacket {
    const NAME: &'static str = "unix seqpacket";
    const FAMILY: AddressFamily = AddressFamily::Unix;
    const TYPE: SockType = SockType::SeqPacket;
}

impl Kind for Datagram {
    const NAME: &'static str = "unix datagram";
    const FAMILY: AddressFamily = AddressFamily::Unix;
    const TYPE: SockType = SockType::Datagram;
}

impl Kind for Tcp {
    const NAME: &'static str = "TCP 127.0.0.1";
    const FAMILY: AddressFamily = AddressFamily::Inet;
    const TYPE: SockType = SockType::Stream;
}

/// One send and one receive call a message. With several senders, a connection
/// for each, and a `poll` that says which have something.
pub(crate) struct Socket<K>(PhantomData<K>);

pub(crate) struct SocketSender(OwnedFd);

pub(crate) struct SocketReceiver {
    /// Where senders have connected, but are not accepted yet.
    waiting: Option<Waiting>,
    connections: Vec<OwnedFd>,
    /// Those of them that had something when they were asked last.
    ready: Vec<usize>,
    /// For messages that come in pieces: wait for all of them.
    flags: MsgFlags,
    message: &'static mut [u8],
}

struct Waiting {
    listener: Listener,
    senders: u32,
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl<K: Kind> Socket<K> {
    /// Refuses messages that the buffer has no room for.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        let buffers = Buffers::of(&new::<K>(plan)?)?;
        // What Linux keeps of the buffer for itself.
        let most = buffers.send.saturating_sub(32);
        ensure!(
            K::TYPE == SockType::Stream || plan.size <= most,
            "{} bytes do not fit in a send buffer of {}",
            plan.size,
            buffers.send
        );
        Ok(())
    }

    /// Its messages may come in pieces.
    fn flags() -> MsgFlags {
        if K::TYPE == SockType::Stream { MsgFlags::MSG_WAITALL } else { MsgFlags::empty() }
    }
}

/// Bytes, as the kernel counts them: its own bookkeeping is among them.
struct Buffers {
    send: usize,
    receive: usize,
}

impl Buffers {
    fn of(socket: &impl AsFd) -> Result<Buffers> {
        Ok(Buffers {
            send: getsockopt(socket, sockopt::SndBuf)?,
            receive: getsockopt(socket, sockopt::RcvBuf)?,
        })
    }
}

/// A socket with buffers of the plan's capacity, or as much of it as the system
/// allows, and room for a message at least.
fn new<K: Kind>(plan: &Plan) -> Result<OwnedFd> {
    let socket = socket(K::FAMILY, K::TYPE, SockFlag::SOCK_CLOEXEC, None).context(K::NAME)?;
    // More than is allowed is no error. The kernel doubles what it is told.
    let bytes = (plan.settings.capacity as usize).max(plan.size).min(1 << 30);
    setsockopt(&socket, sockopt::SndBuf, &bytes)?;
    setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
    if K::FAMILY == AddressFamily::Inet {
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    }
    Ok(socket)
}

impl<K: Kind> Transport for Socket<K> {
    type Sender = SocketSender;
    type Receiver = SocketReceiver;

    fn describe(plan: &Plan) -> String {
        super::words(new::<K>(plan).and_then(|socket| Buffers::of(&socket)).map(|buffers| {
            let no_delay = if K::FAMILY == AddressFamily::Inet { ", TCP_NODELAY" } else { "" };
            format!(
                "{}, SO_SNDBUF {}, SO_RCVBUF {}{no_delay}, a call each for each message",
                K::NAME,
                buffers.send,
                buffers.receive
            )
        }))
    }

    fn receiver(plan: &Plan, name: &str) -> Result<SocketReceiver> {
        Self::can(plan)?;
        let path = plan.place.join(name);
        let socket = new::<K>(plan)?;
        let mut receiver = SocketReceiver {
            waiting: None,
            connections: Vec::new(),
            ready: Vec::new(),
            flags: Self::flags(),
            message: buffer(plan.size),
        };
        let address: Box<dyn SockaddrLike> = match K::FAMILY {
            // The system chooses the port.
            AddressFamily::Inet => Box::new(SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))),
            _ => Box::new(UnixAddr::new(&path).with_context(|| format!("{}", path.display()))?),
        };
        bind(socket.as_raw_fd(), address.as_ref()).with_context(|| format!("{}", path.display()))?;
        if K::TYPE == SockType::Datagram {
            receiver.connections.push(socket);
            return Ok(receiver);
        }
        listen(&socket, Backlog::new(plan.settings.senders as i32)?)?;
        let listener = match K::FAMILY {
            AddressFamily::Inet => {
                let listener = TcpListener::from(socket);
                fs::write(&path, listener.local_addr()?.port().to_string())?;
                Listener::Tcp(listener)
            }
            _ => Listener::Unix(UnixListener::from(socket)),
        };
        receiver.waiting = Some(Waiting { listener, senders: plan.settings.senders });
        Ok(receiver)
    }

    fn sender(plan: &Plan, name: &str) -> Result<SocketSender> {
        let path = plan.place.join(name);
        let socket = new::<K>(plan)?;
        let address: Box<dyn SockaddrLike> = match K::FAMILY {
            AddressFamily::Inet => {
                let port = fs::read_to_string(&path)?.parse()?;
                Box::new(SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
            }
            _ => Box::new(UnixAddr::new(&path)?),
        };
        connect(socket.as_raw_fd(), address.as_ref()).with_context(|| format!("{}", path.display()))?;
        Ok(SocketSender(socket))
    }
}

impl Sender for SocketSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let mut sent = 0;
        while sent < message.len() {
            // Without the flag, a receiver that is gone would end us by a signal.
            sent += send(self.0.as_raw_fd(), &message[sent..], MsgFlags::MSG_NOSIGNAL)?;
        }
        Ok(())
    }
}

impl Waiting {
    /// They have all connected before the first message is received.
    fn accept(self) -> Result<Vec<OwnedFd>> {
        let accept = |_| -> Result<OwnedFd> {
            Ok(match &self.listener {
                Listener::Unix(listener) => listener.accept()?.0.into(),
                Listener::Tcp(listener) => listener.accept()?.0.into(),
            })
        };
        (0..self.senders).map(accept).collect()
    }
}

impl SocketReceiver {
    /// A connection that has something, or the only one.
    #[inline(always)]
    fn next(&mut self) -> Result<usize> {
        if let Some(waiting) = self.waiting.take() {
            self.connections = waiting.accept()?;
        }
        if self.connections.len() == 1 {
            return Ok(0);
        }
        loop {
            match self.ready.pop() {
                Some(connection) => return Ok(connection),
                None => self.wait()?,
            }
        }
    }

    fn wait(&mut self) -> Result<()> {
        let sockets = self.connections.iter().map(AsFd::as_fd);
        let mut asked: Vec<_> = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
        match poll(&mut asked, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("poll: {error}"),
        }
        let has_some = |asked: &PollFd| asked.any() == Some(true);
        self.ready.extend((0..).zip(&asked).filter(|(_, asked)| has_some(asked)).map(|(number, _)| number));
        Ok(())
    }
}

impl Receiver for SocketReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let connection = self.next()?;
        let socket = self.connections[connection].as_raw_fd();
        let mut len = recv(socket, self.message, self.flags)?;
        ensure!(len > 0, "the sender is gone");
        // A stream's message in pieces, in spite of the flag: a signal came.
        while len < self.message.len() && self.flags == MsgFlags::MSG_WAITALL {
            let more = recv(socket, &mut self.message[len..], self.flags)?;
            ensure!(more > 0, "the sender is gone");
            len += more;
        }
        Ok(look(&self.message[..len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{exchange, plan};

    fn any<K: Kind>() {
        for size in [8, 64, 1024, 65536] {
            exchange::<Socket<K>>(&plan(size, 500, 1));
        }
        let mut several = plan(64, 2000, 1);
        several.settings.senders = 4;
        exchange::<Socket<K>>(&several);
        several.size = 65536;
        several.measure = plan(0, 100, 1).measure;
        exchange::<Socket<K>>(&several);
    }

    #[test]
    fn messages_come_whole_from_one_sender_and_from_many() {
        any::<Stream>();
        any::<SeqPacket>();
        any::<Datagram>();
        any::<Tcp>();
    }

    #[test]
    fn a_message_that_no_buffer_holds_is_refused() {
        let huge = plan(1 << 30, 1, 1);
        assert!(Socket::<Datagram>::can(&huge).is_err());
        assert!(Socket::<Stream>::can(&huge).is_ok());
    }
}
