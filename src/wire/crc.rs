//! CRC-32/IEEE (zlib's), for the CRC header of packets.

/// By nibble: 64 bytes of table instead of a KiB, and still faster than any link this runs over.
const TABLE: [u32; 16] = table();

/// The checksum of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| nibble(nibble(crc ^ u32::from(byte))))
}

fn nibble(crc: u32) -> u32 {
    (crc >> 4) ^ TABLE[(crc & 15) as usize]
}

const fn table() -> [u32; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 4 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
