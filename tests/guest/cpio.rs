//! Writer of the archive that the kernel unpacks as its first root: cpio, format "newc".
//!
//! A header is the magic and thirteen numbers of eight hex digits; the name (with a NUL) and the data follow, each
//! padded to four bytes. Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source.

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive in the making.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; parents must come before their children.
    pub(super) fn add_directory(&mut self, name: &str) {
        self.add_entry(name, DIRECTORY, &[]);
    }

    /// Adds a file that may be executed.
    pub(super) fn add_file(&mut self, name: &str, data: &[u8]) {
        self.add_entry(name, PROGRAM, data);
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.add_entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add_entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        // An inode number of its own for each entry: the kernel takes equal numbers for hard links.
        self.entries += 1;
        let (uid, gid, links, mtime, device, check) = (0, 0, 1, 0, 0, 0);
        let data_len = u32::try_from(data.len()).expect("a file of an initramfs is smaller than 4 GiB");
        let name_len = u32::try_from(name.len() + 1).expect("a name is short");
        let fields = [
            self.entries,
            mode,
            uid,
            gid,
            links,
            mtime,
            data_len,
            device,
            device,
            device,
            device,
            name_len,
            check,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_has_header_name_and_padded_data() {
        let mut archive = Archive::default();
        archive.add_file("init", b"hello");
        let bytes = archive.finish();

        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081ed", "a regular file, 0755");
        assert_eq!(&bytes[54..62], b"00000005", "length of the data");
        assert_eq!(&bytes[94..102], b"00000005", "length of the name with its NUL");
        assert_eq!(&bytes[110..116], b"init\0\0", "110 + 5 bytes are padded to 116");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701", "the trailer follows");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn inode_numbers_differ() {
        let mut archive = Archive::default();
        archive.add_directory("a");
        archive.add_directory("b");
        let bytes = archive.finish();
        assert_eq!(&bytes[6..14], b"00000001");
        assert_eq!(&bytes[112 + 6..112 + 14], b"00000002");
    }
}
