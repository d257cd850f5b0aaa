//! For tests: both sides of a contestant as threads.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use bench_kit::{Check, Measure, Plan, Receiver, Role, Sender, Settings, Source, Transport};

/// A plan of so many messages one way.
pub(crate) fn plan(size: usize, messages: u64, batch: u32) -> Plan {
    Plan {
        name: String::new(),
        role: Role::Both,
        measure: Measure::OneWay { messages, warmup: 0, batch, work: 0 },
        size,
        core: None,
        place: Default::default(),
        settings: Settings::default(),
    }
}

/// Sends what `plan` says through a `T`, in a folder of its own, and panics unless
/// all of it comes as it was sent, or if that takes for ever.
pub(crate) fn exchange<T: Transport>(plan: &Plan) {
    let place = tempfile::tempdir().expect("a folder");
    let plan = Plan { place: place.path().to_owned(), ..plan.clone() };
    let Measure::OneWay { messages, batch, .. } = plan.measure else { panic!("one way only") };
    let total = messages * plan.settings.senders as u64;
    let (bound, is_bound) = mpsc::channel();
    let (connected, all_connected) = mpsc::channel();
    let (tell, outcome) = mpsc::channel();
    let (senders, size) = (plan.settings.senders, plan.size);
    let receiving = plan.clone();
    thread::spawn(move || {
        let mut receiver = T::receiver(&receiving, "there").expect("a receiver");
        bound.send(()).expect("the test waits");
        (0..senders).for_each(|_| all_connected.recv().expect("a sender connects"));
        let mut check = Check::new(size, senders);
        for _ in 0..total {
            receiver.receive(|message| check.look(message)).expect("a message");
        }
        tell.send((check.seen(), check.lost, check.wrong)).expect("the test waits");
    });
    is_bound.recv_timeout(Duration::from_secs(60)).expect("the receiver binds");
    // As in a round, they stay until all is received.
    let end = Arc::new(Barrier::new(senders as usize + 1));
    let sending: Vec<_> = (0..senders)
        .map(|number| {
            let (plan, connected, end) = (plan.clone(), connected.clone(), end.clone());
            thread::spawn(move || {
                let mut sender = T::sender(&plan, "there").expect("a sender");
                connected.send(()).expect("the receiver waits");
                let mut source = Source::new(size, number);
                let mut left = messages;
                while left > 0 {
                    let count = left.min(batch as u64);
                    sender.send_batch(&mut source, count as u32).expect("room");
                    left -= count;
                }
                sender.finish().expect("the rest goes");
                end.wait();
            })
        })
        .collect();
    let outcome = outcome.recv_timeout(Duration::from_secs(60)).expect("all arrive in a minute");
    assert_eq!(outcome, (total, 0, 0), "seen, lost, wrong: {plan:?}");
    end.wait();
    sending.into_iter().for_each(|sent| sent.join().expect("a sender does not panic"));
}
