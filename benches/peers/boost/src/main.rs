//! Boost.Interprocess `message_queue`.

mod queue;

use std::ffi::CString;

use anyhow::{Context, Result};
use bench_kit::{Measure, Plan, Receiver, Sender, Transport, serve, spin_until};

use queue::Queue;

/// One queue for all senders.
struct Boost;

struct BoostSender {
    queue: Queue,
    sleeps: bool,
}

struct BoostReceiver {
    queue: Queue,
    /// To be removed when all have it.
    name: Option<CString>,
    message: Vec<u8>,
    sleeps: bool,
}

/// Whether they wait inside the queue, which is faster than to try again and again
/// only where one sender and the receiver have a core each: whoever tries takes
/// the lock from the other.
fn sleeps(plan: &Plan) -> bool {
    match plan.measure {
        Measure::Wake { .. } | Measure::Idle { .. } => true,
        Measure::OneWay { .. } => plan.core.is_some() && plan.settings.senders == 1,
        Measure::RoundTrip { .. } => false,
    }
}

/// Messages under way.
fn depth(plan: &Plan) -> usize {
    (plan.settings.capacity as usize / plan.size).clamp(4, 8192)
}

/// Below `/dev/shm`, as it will have it, named after the plan's folder.
fn shm_name(plan: &Plan, name: &str) -> Result<CString> {
    let folder = plan.place.file_name().and_then(|name| name.to_str()).context("the folder has a name")?;
    Ok(CString::new(format!("{folder}.{name}"))?)
}

impl Transport for Boost {
    type Sender = BoostSender;
    type Receiver = BoostReceiver;

    fn describe(plan: &Plan) -> String {
        let (major, minor, patch) = queue::version();
        format!(
            "Boost.Interprocess {major}.{minor}.{patch}, message_queue of {}, one priority, {}",
            depth(plan),
            if sleeps(plan) { "send and receive" } else { "try_send and try_receive" }
        )
    }

    fn receiver(plan: &Plan, name: &str) -> Result<BoostReceiver> {
        let name = shm_name(plan, name)?;
        let queue = Queue::create(&name, depth(plan), plan.size)?;
        Ok(BoostReceiver { queue, name: Some(name), message: vec![0; plan.size], sleeps: sleeps(plan) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<BoostSender> {
        Ok(BoostSender { queue: Queue::open(&shm_name(plan, name)?)?, sleeps: sleeps(plan) })
    }
}

impl Sender for BoostSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        if self.sleeps {
            return self.queue.send(message, true).map(|_| ());
        }
        spin_until(|| Ok(self.queue.send(message, false)?.then_some(())))
    }
}

impl Receiver for BoostReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if let Some(name) = self.name.take() {
            queue::remove(&name);
        }
        let size = if self.sleeps {
            self.queue.receive(&mut self.message, true)?.context("it waits until there is one")?
        } else {
            spin_until(|| self.queue.receive(&mut self.message, false))?
        };
        Ok(look(&self.message[..size]))
    }
}

fn main() -> Result<()> {
    bench_kit::main(serve::<Boost>)
}
