//! A reader over one frame for what is decoded by hand: headers and Produce.
//!
//! Every read checks what is left and gives slices of the frame, never copies. Counts are bounded by the
//! bytes that remain, so a lying count cannot make anybody allocate.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// Why the bytes do not read as what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the request ends too early")]
    Short,
    #[error("a count or length of {0} exceeds the request")]
    Count(i64),
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("a varint is longer than five bytes")]
    Varint,
    #[error("a field that must be present is null")]
    Null,
}

/// What is left of a frame.
#[derive(Clone, Debug)]
pub struct Cursor(Bytes);

impl Cursor {
    pub fn new(frame: Bytes) -> Self {
        Self(frame)
    }

    pub fn rest(self) -> Bytes {
        self.0
    }

    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.0.try_get_i16().map_err(|_| WireError::Short)
    }

    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.0.try_get_i32().map_err(|_| WireError::Short)
    }

    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        self.0
            .try_get_u128()
            .map(Uuid::from_u128)
            .map_err(|_| WireError::Short)
    }

    pub fn unsigned_varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u64;
        for place in 0..5 {
            let byte = self.0.try_get_u8().map_err(|_| WireError::Short)?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| WireError::Varint);
            }
        }
        Err(WireError::Varint)
    }

    /// A slice of the frame.
    pub fn take(&mut self, length: i64) -> Result<Bytes, WireError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(self.0.split_to(length)),
            _ => Err(WireError::Count(length)),
        }
    }

    /// A length in the encoding of the version; -1 is null.
    fn length(&mut self, flexible: bool, short: bool) -> Result<i64, WireError> {
        if flexible {
            Ok(i64::from(self.unsigned_varint()?) - 1)
        } else if short {
            Ok(i64::from(self.i16()?))
        } else {
            Ok(i64::from(self.i32()?))
        }
    }

    pub fn nullable_string(&mut self) -> Result<Option<StrBytes>, WireError> {
        self.nullable_text(false)
    }

    pub fn nullable_text(&mut self, flexible: bool) -> Result<Option<StrBytes>, WireError> {
        match self.length(flexible, true)? {
            -1 => Ok(None),
            length => StrBytes::from_utf8(self.take(length)?)
                .map(Some)
                .map_err(|_| WireError::Utf8),
        }
    }

    pub fn text(&mut self, flexible: bool) -> Result<StrBytes, WireError> {
        self.nullable_text(flexible)?.ok_or(WireError::Null)
    }

    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, WireError> {
        match self.length(flexible, false)? {
            -1 => Ok(None),
            length => self.take(length).map(Some),
        }
    }

    /// The number of elements of an array whose elements take at least `element_bytes_min` each.
    pub fn count(&mut self, flexible: bool, element_bytes_min: usize) -> Result<usize, WireError> {
        match self.length(flexible, false)? {
            -1 => Err(WireError::Null),
            count => match usize::try_from(count) {
                Ok(elements) if elements <= self.0.len() / element_bytes_min => Ok(elements),
                _ => Err(WireError::Count(count)),
            },
        }
    }

    /// Skips a flexible structure's tagged fields; we know none.
    pub fn tagged_fields(&mut self) -> Result<(), WireError> {
        for _ in 0..self.unsigned_varint()? {
            let _tag = self.unsigned_varint()?;
            let length = self.unsigned_varint()?;
            self.take(i64::from(length))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(bytes: &'static [u8]) -> Cursor {
        Cursor::new(Bytes::from_static(bytes))
    }

    #[test]
    fn counts_beyond_the_frame_are_refused() {
        assert_eq!(
            cursor(&[0x7f, 0xff, 0xff, 0xff]).count(false, 1),
            Err(WireError::Count(i64::from(i32::MAX)))
        );
        assert_eq!(
            cursor(&[0xff, 0xff, 0xff, 0xff, 0x0f]).count(true, 1),
            Err(WireError::Count(i64::from(u32::MAX) - 1))
        );
        assert_eq!(cursor(&[0, 0, 0, 2, 9, 9]).count(false, 1), Ok(2));
        assert_eq!(
            cursor(&[0, 0, 0, 2, 9, 9]).count(false, 2),
            Err(WireError::Count(2))
        );
    }

    #[test]
    fn overlong_varints_are_refused() {
        assert_eq!(cursor(&[0x80; 6]).unsigned_varint(), Err(WireError::Varint));
        assert_eq!(
            cursor(&[0xff, 0xff, 0xff, 0xff, 0x1f]).unsigned_varint(),
            Err(WireError::Varint)
        );
        assert_eq!(cursor(&[0x80]).unsigned_varint(), Err(WireError::Short));
    }

    #[test]
    fn negative_lengths_are_refused() {
        assert_eq!(cursor(&[0xff, 0xfe]).nullable_string(), Err(WireError::Count(-2)));
        assert_eq!(cursor(&[0xff, 0xff]).text(false), Err(WireError::Null));
        assert_eq!(cursor(&[0xff, 0xff]).nullable_string(), Ok(None));
    }
}
