//! The kernel proper (an ELF file) inside Debian's bzImage. QEMU boots the ELF directly (PVH), which saves the seconds
//! that the guest would take to decompress it. Documentation/arch/x86/boot.rst in the kernel's source.

use anyhow::{Result, bail, ensure};

/// The compressed kernel within a bzImage and the program that decompresses it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    /// The compressed bytes.
    pub(super) bytes: &'a [u8],
    /// Decompresses its standard input; `None` for a kernel that is stored as it is.
    pub(super) decompressor: Option<&'static str>,
}

const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;
/// The payload ends with the uncompressed size, which is no part of the compressed stream.
const SIZE_TRAILER: usize = 4;

/// Finds the payload of a bzImage.
pub(super) fn find_payload(image: &[u8]) -> Result<Payload<'_>> {
    ensure!(image.get(MAGIC..MAGIC + 4) == Some(b"HdrS"), "no bzImage: the magic HdrS is missing");
    let setup_sectors = match image[SETUP_SECTORS] {
        0 => 4, // Zero means four, for historical reasons.
        n => usize::from(n),
    };
    let start = (setup_sectors + 1) * SECTOR + read_u32(image, PAYLOAD_OFFSET)?;
    let length = read_u32(image, PAYLOAD_LENGTH)?;
    let Some(bytes) = image.get(start..start + length) else {
        bail!("bzImage of {} bytes is too short for a payload of {length} bytes at {start}", image.len());
    };
    let decompressor = match bytes {
        [0x7f, b'E', b'L', b'F', ..] => return Ok(Payload { bytes, decompressor: None }),
        [0xfd, b'7', b'z', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0x1f, 0x8b, ..] => "gzip",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        _ => bail!("unknown compression of the kernel: {:02x?}", &bytes[..bytes.len().min(4)]),
    };
    Ok(Payload { bytes: &bytes[..length.saturating_sub(SIZE_TRAILER)], decompressor: Some(decompressor) })
}

fn read_u32(image: &[u8], at: usize) -> Result<usize> {
    let Some(bytes) = image.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
        bail!("bzImage ends within its header");
    };
    Ok(u32::from_le_bytes(*bytes) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR + 16];
        image[SETUP_SECTORS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = u8::try_from(payload.len()).unwrap();
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn finds_compressed_payload_without_its_size() {
        let image = image(b"\xfd7zXZ\0data\x01\x02\x03\x04");
        let payload = find_payload(&image).unwrap();
        assert_eq!(payload, Payload { bytes: b"\xfd7zXZ\0data", decompressor: Some("xz") });
    }

    #[test]
    fn keeps_plain_elf_whole() {
        let image = image(b"\x7fELFdata");
        assert_eq!(find_payload(&image).unwrap(), Payload { bytes: b"\x7fELFdata", decompressor: None });
    }

    #[test]
    fn refuses_other_files() {
        assert!(find_payload(b"short").is_err());
        assert!(find_payload(&vec![0; 4096]).is_err());
        let mut short = image(b"\xfd7zXZ\0data");
        short.truncate(2 * SECTOR + 18);
        assert!(find_payload(&short).is_err());
        assert!(find_payload(&image(b"what")).is_err());
    }
}
