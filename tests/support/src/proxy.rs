//! A cable between hosts and the controller that a test can cut: connections then stand still, with no end to be seen.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Pause between two looks while the cable is cut.
const PAUSE: Duration = Duration::from_millis(10);

/// A cable on loopback.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    gone: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Cable {
    /// A cable to a port of this machine.
    pub fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for inbound in listener.incoming() {
                if shared.gone.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(inbound) = inbound {
                    join(inbound, port, &shared);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing gets through, in either direction; nobody is told.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// Ends the connections that stood still and lets new ones through.
    pub fn heal(&self) {
        let mut streams = self
            .state
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            // It may have ended already.
            let _ended = stream.shutdown(Shutdown::Both);
        }
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::SeqCst);
        self.heal();
        // Wakes the listener, so that its thread sees that it is to end.
        let _woken = TcpStream::connect(self.address);
    }
}

fn join(inbound: TcpStream, port: u16, state: &Arc<State>) {
    let Ok(outbound) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let (Ok(back_in), Ok(back_out)) = (outbound.try_clone(), inbound.try_clone()) else {
        return;
    };
    {
        let mut streams = state.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.extend(inbound.try_clone());
        streams.extend(outbound.try_clone());
    }
    for (from, to) in [(inbound, outbound), (back_in, back_out)] {
        let state = Arc::clone(state);
        thread::spawn(move || carry(from, to, &state));
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        while state.cut.load(Ordering::SeqCst) && !state.gone.load(Ordering::SeqCst) {
            thread::sleep(PAUSE);
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other direction may have ended both already.
    let _ended = to.shutdown(Shutdown::Both);
}
