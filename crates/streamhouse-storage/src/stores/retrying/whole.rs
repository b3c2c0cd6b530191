//! All bytes of a GET in one piece, and exactly as many as were announced.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use object_store::{GetResult, GetResultPayload, Result};

use super::generic;
use crate::stores::fault::WrongLength;
use crate::stores::reuse::{LARGE_BYTES_MIN, ReadBlock, ReadMemory};

/// No answer is given more memory than this before its bytes are there.
const PREPARED_BYTES_MAX: u64 = 128 << 20;

/// The result without its bytes, and they. A large single chunk is not copied; the chunks of a large answer are joined
/// in `memory`.
pub(super) async fn collect(result: GetResult, memory: &ReadMemory) -> Result<(GetResult, Bytes)> {
    let announced = result.range.end - result.range.start;
    let GetResultPayload::Stream(body) = result.payload;
    // An empty object's stream ends before its first chunk, and is asked once more below.
    let mut body = body.fuse();
    let mut whole = body.try_next().await?.unwrap_or_default();
    let mut actual = whole.len() as u64;
    if actual < announced {
        let mut joined = Joined::prepared(announced, memory);
        joined.add(&whole);
        while let Some(chunk) = body.try_next().await? {
            actual += chunk.len() as u64;
            if actual > announced {
                break;
            }
            joined.add(&chunk);
        }
        whole = joined.into_bytes();
    } else {
        if whole.len() < LARGE_BYTES_MIN {
            // It is a part of the connection's buffer, which would stay with it.
            whole = Bytes::copy_from_slice(&whole);
        }
        // Draining it lets the connection be used again.
        while let Some(chunk) = body.try_next().await? {
            actual += chunk.len() as u64;
            if actual > announced {
                break;
            }
        }
    }
    if actual != announced {
        return Err(generic(WrongLength { announced, actual }));
    }
    let rest = GetResult {
        payload: GetResultPayload::Stream(stream::empty().boxed()),
        ..result
    };
    Ok((rest, whole))
}

/// What has come of an answer.
enum Joined {
    Own(Vec<u8>),
    Reused { block: ReadBlock, filled: usize },
}

impl Joined {
    fn prepared(announced: u64, memory: &ReadMemory) -> Self {
        let bytes = usize::try_from(announced.min(PREPARED_BYTES_MAX)).unwrap_or(usize::MAX);
        match announced <= PREPARED_BYTES_MAX && bytes >= LARGE_BYTES_MIN {
            true => Self::Reused {
                block: memory.take(bytes),
                filled: 0,
            },
            false => Self::Own(Vec::with_capacity(bytes)),
        }
    }

    /// All chunks together are no longer than was announced.
    fn add(&mut self, chunk: &[u8]) {
        match self {
            Self::Own(bytes) => bytes.extend_from_slice(chunk),
            Self::Reused { block, filled } => {
                block.aligned()[*filled..*filled + chunk.len()].copy_from_slice(chunk);
                *filled += chunk.len();
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Own(bytes) => bytes.into(),
            Self::Reused { block, filled } => block.lend(0..filled),
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use object_store::{Attributes, Extensions, ObjectMeta};

    use super::*;

    fn answer(announced: u64, chunks: &[usize]) -> GetResult {
        let total = chunks.iter().sum::<usize>();
        let bytes = Bytes::from((0..total).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        let mut at = 0;
        let chunks: Vec<_> = chunks
            .iter()
            .map(|length| {
                at += length;
                Ok(bytes.slice(at - length..at))
            })
            .collect();
        GetResult {
            payload: GetResultPayload::Stream(stream::iter(chunks).boxed()),
            meta: ObjectMeta {
                location: Path::from("a"),
                last_modified: Default::default(),
                size: announced,
                e_tag: None,
                version: None,
            },
            range: 0..announced,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        }
    }

    #[tokio::test]
    async fn chunks_are_joined_in_order_whatever_their_size() {
        let memory = ReadMemory::default();
        let large = LARGE_BYTES_MIN;
        for chunks in [
            vec![],
            vec![5],
            vec![5, 0, 7],
            vec![large],
            vec![3, large - 3],
            vec![large / 2, 1, large, 4_095],
        ] {
            let total: usize = chunks.iter().sum();
            let (rest, bytes) = collect(answer(total as u64, &chunks), &memory).await.unwrap();
            assert_eq!((rest.range.end, bytes.len()), (total as u64, total));
            let right = bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == (at % 251) as u8);
            assert!(right, "{chunks:?}");
        }
    }

    #[tokio::test]
    async fn a_small_answer_does_not_keep_the_buffer_it_came_in() {
        let mut result = answer(5, &[]);
        let buffer = Bytes::from(vec![7; LARGE_BYTES_MIN]);
        result.payload = GetResultPayload::Stream(stream::iter([Ok(buffer.slice(..5))]).boxed());
        drop(buffer);
        let (_, bytes) = collect(result, &ReadMemory::default()).await.unwrap();
        assert_eq!(bytes, [7; 5].as_slice());
        assert!(bytes.try_into_mut().unwrap().capacity() < 100);
    }

    #[tokio::test]
    async fn another_length_than_was_announced_is_an_error_also_an_absurd_one() {
        let memory = ReadMemory::default();
        let large = LARGE_BYTES_MIN as u64;
        for (announced, chunks) in [
            (4, vec![3]),
            (4, vec![5]),
            (4, vec![4, 1]),
            (4, vec![2, 3]),
            (large, vec![3, large as usize]),
            (large, vec![3, large as usize - 4]),
            (u64::MAX, vec![3, 4]),
        ] {
            let error = collect(answer(announced, &chunks), &memory).await.unwrap_err();
            assert!(error.to_string().contains("bytes"), "{error}");
        }
    }
}
