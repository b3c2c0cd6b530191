//! How ids look to Kafka's clients where they are text.

use uuid::Uuid;

/// A UUID as Kafka writes it: 22 characters of URL-safe base64.
#[must_use]
pub fn kafka_uuid(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.as_u128();
    // 128 bits are 21 sextets and two bits, which fill the high end of the last.
    (0..22)
        .map(|at| {
            let sextet = if at < 21 {
                bits >> (122 - 6 * at)
            } else {
                bits << 4
            };
            char::from(ALPHABET[(sextet & 63) as usize])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_look_like_kafkas() {
        // Kafka's Uuid(0x1, 0x2) and its zero, as its toString writes them.
        assert_eq!(kafka_uuid(Uuid::from_u64_pair(1, 2)), "AAAAAAAAAAEAAAAAAAAAAg");
        assert_eq!(kafka_uuid(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(kafka_uuid(Uuid::max()), "_____________________w");
    }
}
