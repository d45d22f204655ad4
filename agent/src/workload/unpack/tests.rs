//! Archives as `docker export` writes them, and as those do who want out of the root.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tar::{Builder, Header};

/// A directory with a root in it, and a file beside that is nobody's business; removed at the end.
struct Ground(PathBuf);

impl Ground {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bellows-unpack-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("root")).unwrap();
        fs::write(path.join("beside"), "untouched").unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn unpack(&self, archive: &[u8], most: u64) -> Result<Unpacked, UnpackError> {
        unpack(archive, File::open(self.root()).unwrap().as_fd(), None, Bytes(most))
    }

    fn assert_untouched(&self) {
        let beside = self.0.join("beside");
        assert_eq!(fs::read_to_string(&beside).unwrap(), "untouched");
        assert_eq!(fs::metadata(&beside).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 2);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An entry: kind, name, link, data.
type Written<'a> = (EntryType, &'a str, &'a str, &'a str);

/// An archive of entries as somebody wrote them who wants out.
fn archive(entries: &[Written<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, link, data) in entries {
        let mut header = Header::new_gnu();
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

use EntryType::{Block, Char, Directory, Fifo, GNULongName, GNUSparse, Link, Regular, Symlink, XHeader};

#[test]
fn what_docker_writes_is_unpacked() {
    let ground = Ground::new("docker");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let text = archive(&[
        (Directory, "./", "", ""),
        (Directory, "etc/", "", ""),
        (Regular, "etc/hello", "", "once"),
        (Regular, "etc/hello", "", "hello"),
        (Symlink, "bin", "usr/bin", ""),
        (Symlink, "etc/mtab", "/run/mounts", ""),
        (Link, "etc/again", "etc/hello", ""),
        (Char, "dev/null", "", ""),
        (Block, "dev/sda", "", ""),
        (Fifo, "run/pipe", "", ""),
        (GNULongName, "././@LongLink", "", &format!("{long}\0")),
        (Regular, "short", "", "long"),
        (XHeader, "PaxHeaders/x", "", "30 path=usr/extended/name.txt\n"),
        (Regular, "other", "", "extended"),
    ]);
    let done = ground.unpack(&text, 1 << 20).unwrap();
    assert_eq!((done.entries, done.bytes, done.left_out), (8, Bytes(4 + 5 + 4 + 8), 3));
    let read = |path: &str| fs::read_to_string(ground.root().join(path)).unwrap();
    assert_eq!((read("etc/hello"), read("etc/again")), ("hello".to_owned(), "hello".to_owned()));
    assert_eq!((read(&long), read("usr/extended/name.txt")), ("long".to_owned(), "extended".to_owned()));
    assert_eq!(fs::read_link(ground.root().join("bin")).unwrap(), Path::new("usr/bin"));
    let hello = fs::metadata(ground.root().join("etc/hello")).unwrap();
    assert_eq!((hello.nlink(), hello.mtime()), (2, 1_000_000_000));
    assert_eq!(hello.permissions().mode() & 0o7777, 0o755, "set-user-ID is for a tenant's users only");
    ground.assert_untouched();
}

#[test]
fn nothing_gets_out_of_the_root() {
    let outside = std::env::temp_dir().join(format!("bellows-unpack-hostile-{}", std::process::id()));
    let beside = outside.join("beside").display().to_string();
    let way = outside.display().to_string();
    let attacks: [(&[Written<'_>], &str); 14] = [
        (&[(Regular, &beside, "", "won")], "absolute"),
        (&[(Regular, "../beside", "", "won")], "a .. in it"),
        (&[(Regular, "a/../../beside", "", "won")], "a .. in it"),
        (&[(Symlink, "out", &way, ""), (Regular, "out/beside", "", "won")], "symbolic link"),
        (&[(Symlink, "out", "..", ""), (Directory, "out/made", "", "")], "symbolic link"),
        (&[(Symlink, "out", "..", ""), (Symlink, "out/link", "x", "")], "symbolic link"),
        (&[(Link, "in", &beside, "")], "absolute"),
        (&[(Link, "in", "../beside", "")], "a .. in it"),
        (&[(Symlink, "out", "..", ""), (Link, "in", "out/beside", "")], "symbolic link"),
        (&[(Symlink, "out", "../beside", ""), (Link, "in", "out", "")], "no file"),
        (&[(Symlink, "out", "..", ""), (Directory, "out", "", "")], "something else is in its place"),
        (&[(GNULongName, "x", "", "../beside\0"), (Regular, "fine", "", "won")], "a .. in it"),
        (&[(XHeader, "x", "", "18 path=../beside\n"), (Regular, "fine", "", "won")], "a .. in it"),
        (&[(GNUSparse, "sparse", "", "")], "not known"),
    ];
    for (entries, said) in attacks {
        let ground = Ground::new("hostile");
        assert_eq!(ground.0, outside);
        let error = ground.unpack(&archive(entries), 1 << 20).unwrap_err().to_string();
        assert!(error.contains(said), "{entries:?}: {error}");
        ground.assert_untouched();
    }
    // What takes the place of a link takes only that.
    let ground = Ground::new("hostile");
    let entries = [(Symlink, "out", "../beside", ""), (Regular, "out", "", "in its place")];
    ground.unpack(&archive(&entries), 1 << 20).unwrap();
    ground.assert_untouched();
}

#[test]
fn what_it_may_come_to_is_bounded() {
    let ground = Ground::new("bounded");
    let many = vec![(Directory, "d", "", ""); 300];
    assert!(matches!(ground.unpack(&archive(&many), 1 << 20), Err(UnpackError::TooLarge(_))));
    let large = "x".repeat(8192);
    let one = archive(&[(Regular, "f", "", &large)]);
    assert!(matches!(ground.unpack(&one, 8192), Err(UnpackError::TooLarge(_))));
    assert!(ground.unpack(&one, 8192 + ENTRY).is_ok());
    // A size that only the header has.
    let mut header = Header::new_gnu();
    header.set_path("sparse").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let claims = header.as_bytes().to_vec();
    assert!(matches!(ground.unpack(&claims, 1 << 20), Err(UnpackError::TooLarge(_))));
    let error = ground.unpack(&claims, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("in the middle"), "{error}");
    let name = "n".repeat(usize::try_from(EXTENSION).unwrap() + 1);
    let named = archive(&[(GNULongName, "x", "", &name)]);
    assert!(ground.unpack(&named, 1 << 20).unwrap_err().to_string().contains("a name or extension of"));
    let gzip = [0x1f, 0x8b, 8, 0].repeat(256);
    assert!(ground.unpack(&gzip, 1 << 20).unwrap_err().to_string().contains("decompressed first"));
    assert!(ground.unpack(&one[..600], 1 << 20).is_err(), "it breaks off");
}
