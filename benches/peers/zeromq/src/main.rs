//! ZeroMQ: PUSH and PULL over `ipc://`.

use anyhow::Result;
use bench_kit::{Plan, Receiver, Sender, Transport, serve};
use zmq::{Context, Message, Socket};

/// Everybody waits inside ZeroMQ: its own thread moves the messages, and
/// shares the core of whoever would poll.
struct ZeroMq;

struct PushSender {
    socket: Socket,
    _context: Context,
}

struct PullReceiver {
    socket: Socket,
    message: Message,
    _context: Context,
}

/// Messages under way at each side; a sender waits when there are more.
fn high_water_mark(plan: &Plan) -> i32 {
    (plan.settings.capacity / plan.size as u64).clamp(4, 65536) as i32
}

fn socket(plan: &Plan, kind: zmq::SocketType) -> Result<(Context, Socket)> {
    let context = Context::new();
    let socket = context.socket(kind)?;
    socket.set_sndhwm(high_water_mark(plan))?;
    socket.set_rcvhwm(high_water_mark(plan))?;
    // All is received when the sockets go.
    socket.set_linger(0)?;
    Ok((context, socket))
}

fn address(plan: &Plan, name: &str) -> String {
    format!("ipc://{}", plan.place.join(name).display())
}

impl Transport for ZeroMq {
    type Sender = PushSender;
    type Receiver = PullReceiver;

    fn describe(plan: &Plan) -> String {
        let (major, minor, patch) = zmq::version();
        format!(
            "libzmq {major}.{minor}.{patch}, PUSH and PULL over ipc://, high-water mark {}, one thread of its own a side",
            high_water_mark(plan)
        )
    }

    fn receiver(plan: &Plan, name: &str) -> Result<PullReceiver> {
        let (context, socket) = socket(plan, zmq::PULL)?;
        socket.bind(&address(plan, name))?;
        Ok(PullReceiver { socket, message: Message::new(), _context: context })
    }

    fn sender(plan: &Plan, name: &str) -> Result<PushSender> {
        let (context, socket) = socket(plan, zmq::PUSH)?;
        socket.connect(&address(plan, name))?;
        Ok(PushSender { socket, _context: context })
    }
}

impl Sender for PushSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.socket.send(message, 0)?)
    }
}

impl Receiver for PullReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.socket.recv(&mut self.message, 0)?;
        Ok(look(&self.message))
    }
}

fn main() -> Result<()> {
    bench_kit::main(serve::<ZeroMq>)
}
