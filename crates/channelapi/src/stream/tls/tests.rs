use super::super::{ReadHalf, Stream, WriteHalf};
use super::session::Kept;
use super::*;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::io::{Read as _, Write as _};
use std::net::TcpStream as StdStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

type Client = StreamOwned<ClientConnection, StdStream>;

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, ClientConfig) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut provider = default_provider();
    provider.cipher_suites =
        vec![cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    let provider = Arc::new(provider);
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), client)
}

/// Both ends of a connection. The client blocks, so it belongs to a thread of its own.
async fn connected(version: &'static SupportedProtocolVersion) -> (TlsStream, Client) {
    let (server, client) = configs(version);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let socket = StdStream::connect(address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = StreamOwned::new(ClientConnection::new(Arc::new(client), name).unwrap(), socket);
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock).unwrap();
        }
        client
    });
    let (socket, _) = listener.accept().await.unwrap();
    let stream = TlsStream::accept(socket, server).await.unwrap();
    (stream, client.await.unwrap())
}

fn halves(stream: TlsStream) -> (ReadHalf, WriteHalf) {
    Stream::Tls(stream).into_split()
}

#[tokio::test]
async fn what_is_sent_arrives_in_both_directions() {
    for version in [&TLS12, &TLS13] {
        let (mut stream, mut client) = connected(version).await;
        let text = "x".repeat(100_000);
        let sent = text.clone();
        let client = tokio::task::spawn_blocking(move || {
            client.write_all(sent.as_bytes()).unwrap();
            let mut answer = vec![0; sent.len()];
            client.read_exact(&mut answer).unwrap();
            assert!(answer == sent.as_bytes());
            client.conn.send_close_notify();
            client.flush().unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty(), "the server said goodbye");
        });
        let mut received = vec![0; text.len()];
        stream.read_exact(&mut received).await.unwrap();
        assert!(received == text.as_bytes());
        stream.write_all(&received).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read(&mut received).await.unwrap(), 0, "the client said goodbye");
        stream.shutdown().await.unwrap();
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_not_one_that_ended() {
    let (mut stream, client) = connected(&TLS13).await;
    drop(client.sock);
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    // The client may have left something unread, and then the kernel says so.
    assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error}");
}

/// Whoever writes sees at most one record more than the socket has taken, and it is sent when there is room.
#[tokio::test]
async fn what_the_socket_does_not_take_waits_in_order() {
    let (stream, mut client) = connected(&TLS13).await;
    let (_read, write) = halves(stream);
    let mut expected = Vec::new();
    let mut number = 0_u32;
    loop {
        let message: Vec<u8> = number.to_be_bytes().repeat(5_000);
        let slices = [IoSlice::new(&message[..7]), IoSlice::new(&message[7..])];
        let written = match write.try_write_vectored(&slices) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        };
        assert!(written <= message.len());
        expected.extend_from_slice(&message[..written]);
        number += 1;
    }
    assert!(write.is_behind());
    let client = tokio::task::spawn_blocking(move || {
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        received
    });
    poll_fn(|cx| write.poll_flush(cx)).await.unwrap();
    assert!(!write.is_behind());
    write.write_all(b"the end").await.unwrap();
    drop(write);
    expected.extend_from_slice(b"the end");
    assert!(client.await.unwrap() == expected);
}

#[tokio::test]
async fn nothing_is_kept_for_a_connection_that_is_idle() {
    let (stream, mut client) = connected(&TLS13).await;
    let (mut read, write) = halves(stream);
    client.write_all(b"hello").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(read.read(&mut buffer).await.unwrap(), 5);
    write.write_all(b"hello").await.unwrap();
    let ReadHalf::Tls(TlsReader(secured)) = &read else { panic!("it is with TLS") };
    assert_eq!(secured.session.lock().kept(), Kept::default());
}

/// The session remembers where the half of a message is that it has seen. It must see it again when something is written,
/// or it looks for it in vain: that would end the thread that delivers a publication.
#[tokio::test]
async fn half_a_message_of_tls_does_not_disturb_what_is_written() {
    let (stream, mut client) = connected(&TLS13).await;
    let (mut read, write) = halves(stream);
    write.write_all(b"first").await.unwrap();
    let mut first = [0; 5];
    client.read_exact(&mut first).unwrap();
    let StreamOwned { conn, mut sock } = client;
    let secrets = conn.dangerous_extract_secrets().unwrap();
    let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
        panic!("the suite was chosen above")
    };
    // The first bytes of a request for new keys, whose length says that more is to come.
    let mut record = vec![24, 0, 22];
    let header = [23, 3, 3, 0, u8::try_from(record.len() + AES_256_GCM.tag_len()).unwrap()];
    let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
    for (byte, of) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= of;
    }
    let sealing = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    sealing.seal_in_place_append_tag(nonce, Aad::from(header), &mut record).unwrap();
    sock.write_all(&header).unwrap();
    sock.write_all(&record).unwrap();

    let ReadHalf::Tls(TlsReader(secured)) = &read else { panic!("it is with TLS") };
    let secured = secured.clone();
    let arrived = async {
        while secured.session.lock().kept().incoming == 0 {
            tokio::task::yield_now().await;
        }
    };
    let mut buffer = [0; 64];
    tokio::select! {
        read = read.read(&mut buffer) => panic!("nothing was sent that can be read: {read:?}"),
        () = arrived => {}
    }
    write.write_all(b"second").await.unwrap();
    let mut sealed = [0; 5 + 6 + 1 + 16];
    sock.read_exact(&mut sealed).unwrap();
    assert_eq!(sealed[0], 23, "a record of data");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_slow_is_given_up() {
    let (server, _) = configs(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let error = TlsStream::accept(socket, server).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn whoever_breaks_the_rules_is_told_and_gets_nothing_more() {
    let (stream, client) = connected(&TLS13).await;
    let (mut read, write) = halves(stream);
    let mut sock = client.sock;
    // A record that nobody encrypted with these keys, and half of another.
    let mut forged = vec![23, 3, 3, 0, 32];
    forged.resize(5 + 32, 7);
    forged.extend([23, 3, 3, 0, 32, 1]);
    sock.write_all(&forged).unwrap();
    let error = read.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(write.try_write(b"data").is_err());
    drop((read, write));
    let mut answer = Vec::new();
    _ = sock.read_to_end(&mut answer);
    assert!(answer.len() > 5, "an alert");
}

#[tokio::test]
async fn whoever_speaks_plain_http_is_told_so() {
    let (server, _) = configs(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(TlsStream::accept(socket, server).await.is_err());
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("begin the URL with https\n"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(answer.contains(&format!("Content-Length: {}\r\n", body.len())));
}

#[tokio::test]
async fn a_hello_of_any_length_is_kept_within_the_limit() {
    let (server, _) = configs(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let sending = tokio::task::spawn_blocking(move || {
        // Fragments of a hello of 64,000 bytes.
        let mut fragment = vec![22, 3, 1, 0x40, 0];
        fragment.resize(5 + 0x4000, 0);
        fragment[5..9].copy_from_slice(&[1, 0, 0xfa, 0]);
        for _ in 0..4 {
            if client.write_all(&fragment).is_err() {
                break;
            }
            fragment[5..9].fill(0);
        }
    });
    let error = TlsStream::accept(socket, server).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    sending.await.unwrap();
}

/// What TLS adds to a connection that idles, beside what the library keeps elsewhere: its buffers are empty, which other tests show.
#[test]
fn a_session_stays_small() {
    // With the two counters of an `Arc` it fills a block of 1,280 bytes.
    let bytes = size_of::<Secured>();
    assert!(bytes <= 1_280 - 16, "a session has {bytes} bytes");
    assert!(bytes > 1_024 - 16, "a session of {bytes} bytes fills a smaller block, which should stay so");
}
