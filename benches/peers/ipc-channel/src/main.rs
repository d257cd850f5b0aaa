//! ipc-channel: its channel for bytes, which leaves out the serialisation.

use std::fs;
use std::thread;

use anyhow::Result;
use bench_kit::{Plan, Receiver, Role, Sender, Transport, serve};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

/// One channel, of which each sender gets a sending end.
struct IpcChannel;

struct BytesSender(IpcBytesSender);

struct BytesReceiver(IpcBytesReceiver);

impl Transport for IpcChannel {
    type Sender = BytesSender;
    type Receiver = BytesReceiver;

    fn describe(_: &Plan) -> String {
        "ipc-channel 0.23, bytes_channel, the buffer is the system's".to_owned()
    }

    fn receiver(plan: &Plan, name: &str) -> Result<BytesReceiver> {
        let (sender, receiver) = ipc::bytes_channel()?;
        let mut servers = Vec::new();
        for number in 0..plan.settings.senders {
            let (server, address) = IpcOneShotServer::<IpcSender<IpcBytesSender>>::new()?;
            fs::write(plan.place.join(format!("{name}.{number}")), address)?;
            servers.push(server);
        }
        // The senders come while this side waits for its next step.
        thread::spawn(move || -> Result<()> {
            for server in servers {
                let (_, reply) = server.accept()?;
                reply.send(sender.clone())?;
            }
            Ok(())
        });
        Ok(BytesReceiver(receiver))
    }

    fn sender(plan: &Plan, name: &str) -> Result<BytesSender> {
        let number = if let Role::Sender(number) = plan.role { number } else { 0 };
        let address = fs::read_to_string(plan.place.join(format!("{name}.{number}")))?;
        let server = IpcSender::<IpcSender<IpcBytesSender>>::connect(address)?;
        let (reply, answer) = ipc::channel()?;
        server.send(reply)?;
        Ok(BytesSender(answer.recv()?))
    }
}

impl Sender for BytesSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.0.send(message)?)
    }
}

impl Receiver for BytesReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        Ok(look(&self.0.recv()?))
    }
}

fn main() -> Result<()> {
    bench_kit::main(serve::<IpcChannel>)
}
