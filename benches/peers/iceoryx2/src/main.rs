//! iceoryx2: publish-subscribe, and an event beside it for those who sleep.
#![allow(unsafe_code)] // One block: a loaned message of which only the ends are written.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bench_kit::{Measure, Plan, Receiver, Sender, Source, Transport, serve, spin_until};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{event, publish_subscribe};

/// Slices of bytes, each of the plan's size; nothing is dropped.
struct Iceoryx2;

struct IceoryxSender {
    publisher: Publisher<ipc::Service, [u8], ()>,
    /// `None`: the receiver polls.
    notifier: Option<Notifier<ipc::Service>>,
    size: usize,
    /// The receiver's mark, until it was seen.
    unseen: Option<PathBuf>,
    // Last, so that it is there until the ports are gone.
    _node: Node<ipc::Service>,
}

struct IceoryxReceiver {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    /// `None`: polls.
    listener: Option<Listener<ipc::Service>>,
    /// To be made when it is connected to all senders.
    mark: Option<PathBuf>,
    _node: Node<ipc::Service>,
}

/// Only they have a receiver that sleeps: polling is faster, and what iceoryx2's
/// own benchmarks do.
fn sleeps(plan: &Plan) -> bool {
    matches!(plan.measure, Measure::Wake { .. } | Measure::Idle { .. })
}

/// Messages under way: as many as the capacity holds. Each takes more memory than
/// its bytes, so not without limit.
fn depth(plan: &Plan) -> usize {
    (plan.settings.capacity as usize / plan.size).clamp(4, 65536)
}

/// All its files below the plan's folder; its shared memory, which has names of
/// its own, named after that folder.
fn node(plan: &Plan) -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Fatal);
    let name = plan.place.file_name().and_then(|name| name.to_str()).context("the folder has a name")?;
    let root = plan.place.join("iceoryx2");
    let mut config = Config::default();
    config.global.prefix = FileName::new(format!("{name}_").as_bytes())?;
    config.global.set_root_path(&Path::new(root.as_os_str().as_encoded_bytes())?);
    Ok(NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()?)
}

fn messages(
    plan: &Plan,
    node: &Node<ipc::Service>,
    name: &str,
) -> Result<publish_subscribe::PortFactory<ipc::Service, [u8], ()>> {
    Ok(node
        .service_builder(&name.try_into()?)
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .history_size(0)
        .subscriber_max_buffer_size(depth(plan))
        .subscriber_max_borrowed_samples(1)
        .max_publishers(plan.settings.senders as usize)
        .max_subscribers(1)
        .max_nodes(plan.settings.senders as usize + 2)
        .open_or_create()?)
}

fn wakes(plan: &Plan, node: &Node<ipc::Service>, name: &str) -> Result<event::PortFactory<ipc::Service>> {
    Ok(node
        .service_builder(&name.try_into()?)
        .event()
        .max_notifiers(plan.settings.senders as usize)
        .max_listeners(1)
        .max_nodes(plan.settings.senders as usize + 2)
        .open_or_create()?)
}

/// A subscriber connects to publishers when it receives or is told to. Until then
/// they send into its buffer, and when that is full leave the message out,
/// whatever their strategy. So they wait for this file before the first.
fn mark(plan: &Plan, name: &str) -> Option<PathBuf> {
    Some(plan.place.join(format!("{name}.connected")))
}

impl Transport for Iceoryx2 {
    type Sender = IceoryxSender;
    type Receiver = IceoryxReceiver;

    fn describe(plan: &Plan) -> String {
        format!(
            "iceoryx2 0.10, ipc::Service, publish-subscribe of [u8], buffer of {}, no overflow, retry until \
             delivered, {}, {}",
            depth(plan),
            if plan.settings.in_place { "written where it was loaned" } else { "copied into a loan" },
            if sleeps(plan) { "an event beside each message" } else { "the subscriber polls" }
        )
    }

    fn receiver(plan: &Plan, name: &str) -> Result<IceoryxReceiver> {
        let node = node(plan)?;
        let subscriber = messages(plan, &node, name)?.subscriber_builder().create()?;
        let listener = match sleeps(plan) {
            true => Some(wakes(plan, &node, name)?.listener_builder().create()?),
            false => None,
        };
        Ok(IceoryxReceiver { subscriber, listener, mark: mark(plan, name), _node: node })
    }

    fn sender(plan: &Plan, name: &str) -> Result<IceoryxSender> {
        let node = node(plan)?;
        let publisher = messages(plan, &node, name)?
            .publisher_builder()
            .initial_max_slice_len(plan.size)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let notifier = match sleeps(plan) {
            true => Some(wakes(plan, &node, name)?.notifier_builder().create()?),
            false => None,
        };
        Ok(IceoryxSender { publisher, notifier, size: plan.size, unseen: mark(plan, name), _node: node })
    }
}

impl IceoryxSender {
    #[inline(always)]
    fn wait_for_receiver(&mut self) -> Result<()> {
        let Some(mark) = self.unseen.take() else { return Ok(()) };
        spin_until(|| Ok(mark.exists().then_some(())))
    }

    #[inline(always)]
    fn delivered(&self, receivers: usize) -> Result<()> {
        ensure!(receivers == 1, "delivered to {receivers} receivers");
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }
}

impl Sender for IceoryxSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.wait_for_receiver()?;
        let sample = self.publisher.loan_slice_uninit(message.len())?;
        self.delivered(sample.write_from_slice(message).send()?)
    }

    #[inline(always)]
    fn send_in_place(&mut self, source: &mut Source) -> Result<()> {
        self.wait_for_receiver()?;
        let sample = self.publisher.loan_slice_uninit(self.size)?;
        // SAFETY: all of it is bytes of a shared memory object, which the system
        // gave filled with zeroes and where only bytes were written since.
        let mut sample = unsafe { sample.assume_init() };
        source.stamp(sample.payload_mut());
        self.delivered(sample.send()?)
    }
}

impl Receiver for IceoryxReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if let Some(mark) = self.mark.take() {
            self.subscriber.update_connections()?;
            fs::write(mark, [])?;
        }
        let sample = match &self.listener {
            None => spin_until(|| Ok(self.subscriber.receive()?))?,
            Some(listener) => loop {
                if let Some(sample) = self.subscriber.receive()? {
                    break sample;
                }
                listener.blocking_wait(|_| ())?;
            },
        };
        Ok(look(sample.payload()))
    }
}

fn main() -> Result<()> {
    bench_kit::main(serve::<Iceoryx2>)
}
