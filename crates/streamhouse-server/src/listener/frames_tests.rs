//! Cutting a stream into frames: whole, in pieces, too large, never finished.

use bytes::BufMut;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

fn limits() -> Limits {
    Limits {
        frame_bytes_max: 1 << 20,
        idle_timeout: Duration::from_secs(600),
        stall_timeout: Duration::from_secs(30),
        inflight: Budget::new(4 << 20),
        plain: Budget::new(4 << 20),
        waiting: Budget::new(4 << 20),
    }
}

fn reader(buffer: usize) -> (DuplexStream, FrameReader<DuplexStream>) {
    let (client, server) = duplex(buffer);
    (client, FrameReader::new(server, limits()))
}

/// A frame of `length` bytes that begins with the Produce key.
fn frame(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32(length as u32);
    bytes.put_u16(0);
    bytes.extend((2..length).map(|at| (at % 251) as u8));
    bytes
}

#[tokio::test]
async fn frames_of_any_size_come_out_as_they_went_in() {
    for length in [8, 100, 16_383, 16_384, 16_385, 16_388, 40_000, 300_000, 1 << 20] {
        for piece in [1 << 21, 1000] {
            let (mut client, mut frames) = reader(piece);
            let sent = frame(length);
            let (first, second) = (sent.clone(), frame(9));
            let writing = tokio::spawn(async move {
                for bytes in [first, second] {
                    for part in bytes.chunks(piece) {
                        client.write_all(part).await.unwrap();
                    }
                }
            });
            let got = frames.next().await.unwrap();
            assert!(got.bytes == sent[4..], "{length} in pieces of {piece}");
            assert_eq!(got.charge.bytes(), length);
            assert_eq!(frames.next().await.unwrap().bytes, frame(9)[4..]);
            writing.await.unwrap();
            assert!(matches!(frames.next().await, Err(FrameError::Closed)));
        }
    }
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_before_anything_is_charged() {
    for (length, key) in [
        ((1u32 << 20) + 1, 0u16),
        (u32::MAX, 0),
        (7, 0),
        (0, 3),
        ((8 << 20) + 1, 3),
    ] {
        let (mut client, mut frames) = reader(64);
        client.write_u32(length).await.unwrap();
        client.write_u16(key).await.unwrap();
        assert!(
            matches!(frames.next().await, Err(FrameError::Length { .. })),
            "{length}"
        );
        assert_eq!(frames.limits.inflight.used_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_stops_half_way_is_given_up_and_its_charge_returned() {
    let (mut client, mut frames) = reader(1 << 20);
    client.write_all(&frame(500_000)[..300_000]).await.unwrap();
    let start = Instant::now();
    assert!(matches!(frames.next().await, Err(FrameError::Stalled)));
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    assert_eq!(frames.limits.inflight.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_idle_after_the_idle_timeout() {
    let (_client, mut frames) = reader(64);
    let start = Instant::now();
    assert!(matches!(frames.next().await, Err(FrameError::Idle)));
    assert_eq!(start.elapsed(), Duration::from_secs(600));
}

#[tokio::test]
async fn the_end_inside_a_frame_is_told_from_the_end_between_frames() {
    let (mut client, mut frames) = reader(64);
    client.write_all(&frame(20)[..10]).await.unwrap();
    drop(client);
    assert!(matches!(frames.next().await, Err(FrameError::Truncated)));
}

#[tokio::test(start_paused = true)]
async fn only_what_has_arrived_is_charged() {
    let (mut client, mut frames) = reader(1 << 20);
    client.write_all(&frame(1 << 20)[..20_000]).await.unwrap();
    let inflight = frames.limits.inflight.clone();
    let reading = tokio::spawn(async move { frames.next().await.map(|_| ()) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(inflight.used_bytes(), CHARGE_BYTES);
    reading.abort();
    assert!(reading.await.is_err());
    assert_eq!(inflight.used_bytes(), 0);
}
