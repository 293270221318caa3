//! Listening sockets: a TCP port, or a file on this machine.
//!
//! Invariant: a file is removed only if it is a socket that nobody listens on, or our own.

use super::place::Place;
use crate::stream::Stream;
use channelapi_core::limits::{
    ACCEPT_BACKLOG, TCP_KEEPALIVE, TCP_KEEPALIVE_INTERVAL, TCP_UNSENT_BYTES_MAX, TCP_USER_TIMEOUT,
};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// Who may connect to a unix socket: its owner, and the group, which is how a web server gets in.
const SOCKET_MODE: u32 = 0o660;

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Bound {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a file.
    Unix(UnixListener, SocketFile),
}

impl Bound {
    /// Listens on a TCP port. Flags that begin with `flags` say on which.
    pub(crate) fn tcp(address: SocketAddr, flags: &str) -> anyhow::Result<Self> {
        open_tcp(address).map(Self::Tcp).map_err(|error| {
            anyhow::anyhow!("cannot listen on {address}: {error}{}", advice(error.kind(), flags))
        })
    }

    /// Listens on a file, which is created, and removed at the end.
    pub(crate) fn unix(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                anyhow::bail!(
                    "cannot listen on {shown}: it exists and is not a socket; remove it, or choose another path"
                );
            }
            Ok(_) if is_alive(path) => {
                anyhow::bail!(
                    "cannot listen on {shown}: another process does; stop it, or choose another path"
                );
            }
            // Whoever made it is gone.
            Ok(_) => fs::remove_file(path)
                .map_err(|error| anyhow::anyhow!("cannot replace the abandoned socket {shown}: {error}"))?,
            Err(_) => {}
        }
        let (listener, file) = open_unix(path).map_err(|error| {
            let fix = match error.kind() {
                io::ErrorKind::NotFound => "; create its directory first",
                io::ErrorKind::PermissionDenied => "; this user may not create files there",
                io::ErrorKind::InvalidInput => "; the path is too long for a socket, choose a shorter one",
                _ => "",
            };
            anyhow::anyhow!("cannot listen on {shown}: {error}{fix}")
        })?;
        Ok(Self::Unix(listener, file))
    }

    /// Where it is found.
    pub(super) fn place(&self, is_tls: bool) -> io::Result<Place> {
        match self {
            Self::Tcp(listener) => Ok(Place::Port { address: listener.local_addr()?, is_tls }),
            Self::Unix(_, file) => Ok(Place::Socket(file.path.clone())),
        }
    }

    /// The next connection, and the address that it comes from.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Some(from.ip())))
            }
            Self::Unix(listener, _) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// The file of a unix socket, as long as it is ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// What to do where a port cannot be had.
fn advice(kind: io::ErrorKind, flags: &str) -> String {
    match kind {
        io::ErrorKind::AddrInUse => format!("; choose another port with {flags}port"),
        // An authority comes to 443 or 80 and nowhere else.
        io::ErrorKind::PermissionDenied => format!(
            "; ports below 1024 need a capability: AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit (docs/tls.md has one), or \
             `setcap cap_net_bind_service=+ep` on the program; or choose a higher one with {flags}port"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("; this machine has no such address, choose another {flags}address")
        }
        _ => String::new(),
    }
}

fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    // A restarted server must not wait for connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit these: a peer that is gone without a word is noticed.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE_INTERVAL),
    )?;
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    // What the network does not take yet must not stand in front of a ping.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(TCP_UNSENT_BYTES_MAX)?;
    // And this: packets are small and must leave at once.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn open_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
    // Nobody can connect before it listens, so nobody gets in under the permissions that it is born with.
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(ACCEPT_BACKLOG)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// Whether somebody listens on a socket's file. In doubt somebody does; who has no time to accept us is not waited for.
fn is_alive(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    connect().err().is_none_or(|error: io::Error| error.kind() != io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn refusal(path: &Path) -> String {
        Bound::unix(path).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_and_group_and_goes_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let bound = Bound::unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let _client = UnixStream::connect(&path).unwrap();
        assert_eq!(bound.accept().await.unwrap().1, None);
        drop(bound);
        assert!(!path.exists());
    }

    /// Once, a start waited for ever for a server that had stopped accepting.
    #[tokio::test]
    async fn a_socket_whose_listener_accepts_nobody_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let socket = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        let (busy, address) = (socket(), SockAddr::unix(&path).unwrap());
        busy.bind(&address).unwrap();
        busy.listen(0).unwrap();
        let waiting: Vec<_> = (0..3).map(|_| socket()).collect();
        assert!(waiting.iter().any(|client| client.connect(&address).is_err()), "nobody else has room");
        assert!(refusal(&path).contains("another process does"), "{}", refusal(&path));
    }

    #[tokio::test]
    async fn a_connection_has_what_its_listener_was_given() {
        let bound = Bound::tcp("127.0.0.1:0".parse().unwrap(), "--").unwrap();
        let Bound::Tcp(listener) = &bound else { unreachable!() };
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, from) = bound.accept().await.unwrap();
        let Stream::Tcp(stream) = stream else { unreachable!() };
        assert!(stream.nodelay().unwrap() && from.unwrap().is_loopback());
        assert!(socket2::SockRef::from(&stream).keepalive().unwrap());
    }

    /// Once, the advice was a higher port, where no authority looks.
    #[test]
    fn whoever_may_not_have_a_low_port_hears_what_gives_it() {
        let advice = advice(io::ErrorKind::PermissionDenied, "--tls-redirect-");
        for part in ["AmbientCapabilities=CAP_NET_BIND_SERVICE", "setcap", "with --tls-redirect-port"] {
            assert!(advice.contains(part), "{advice}");
        }
    }

    #[tokio::test]
    async fn only_an_abandoned_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let bound = Bound::unix(&path).unwrap();
        assert!(refusal(&path).contains("another process does"), "it is alive");
        drop(bound);

        // What a killed process leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = Bound::unix(&path).unwrap();

        // Somebody else's by now: it stays.
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(UnixStream::connect(&path).is_ok());
        drop(other);

        let file = dir.path().join("data.db");
        fs::write(&file, "precious").unwrap();
        assert!(refusal(&file).contains("is not a socket"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refusal(&link).contains("is not a socket"));
        assert!(refusal(dir.path()).contains("is not a socket"));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_used_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(&dir.path().join("missing/api.sock")).contains("create its directory first"));
        assert!(refusal(&dir.path().join("x".repeat(120))).contains("choose a shorter one"));
    }
}
