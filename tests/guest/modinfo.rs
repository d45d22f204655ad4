//! Which modules a kernel module needs, read from the module itself, so that neither depmod nor kmod is needed.

/// Needed without being named by anyone's `depends=`: ext4 asks for the checksum by name at mount time.
const UNNAMED: [(&str, &str); 1] = [("ext4", "crc32c_generic")];

/// The modules that `module`, named `name`, needs to be loaded before it.
pub(super) fn find_dependencies(name: &str, module: &[u8]) -> Vec<String> {
    // The section .modinfo is a list of `key=value` that end with NUL; no string of a module looks alike by chance.
    let key = b"\0depends=";
    let named = module.windows(key.len()).position(|window| window == key).map(|at| {
        let value = &module[at + key.len()..];
        let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
        String::from_utf8_lossy(&value[..end]).into_owned()
    });
    let unnamed = UNNAMED.iter().filter(|(user, _)| *user == name).map(|(_, needed)| (*needed).to_owned());
    named
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(normalize)
        .chain(unnamed)
        .collect()
}

/// The kernel takes `-` and `_` in a module's name for the same; file names have both.
pub(super) fn normalize(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_list() {
        let module = b"\x7fELF\0license=GPL\0depends=netfs,9pnet,crc-16\0name=9p\0";
        assert_eq!(find_dependencies("9p", module), ["netfs", "9pnet", "crc_16"]);
    }

    #[test]
    fn reads_none() {
        assert!(find_dependencies("x", b"\0license=GPL\0depends=\0name=x\0").is_empty());
        assert!(find_dependencies("x", b"nothing of the kind").is_empty());
    }

    #[test]
    fn knows_what_is_not_named() {
        assert_eq!(find_dependencies("ext4", b"\0depends=jbd2\0"), ["jbd2", "crc32c_generic"]);
    }
}
