//! One installed package, and its one spelling as a package URL: `pkg:deb/debian/openssl@3.0.11-1?arch=amd64`.
//!
//! Follows the package URL specification for the types `deb` and `rpm`: lower-case type and vendor, percent-encoding of
//! all but letters, digits and `.-_~:`, qualifiers sorted by key, an rpm's epoch as the qualifier `epoch`. Pure.
//! Invariant: text that parses is the canonical spelling; any other spelling of the same package is refused.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;

/// Longest purl in bytes. The longest of Debian 12 has 122.
pub const PURL_MAX: usize = 512;

/// Whose format the package has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackageKind {
    /// dpkg.
    Deb,
    /// rpm.
    Rpm,
}

impl PackageKind {
    /// The type in a purl.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its format.
    pub kind: PackageKind,
    /// The distribution, `ID` of os-release(5); empty where that is not known.
    pub vendor: String,
    /// Its name.
    pub name: String,
    /// Its version as the host's tools print it, with a leading `epoch:` where it has one that is not 0.
    pub version: String,
    /// Its architecture; empty where it has none.
    pub arch: String,
}

impl Package {
    /// Refuses what no package manager would say.
    pub fn check(&self) -> Result<(), Invalid> {
        let parts = [
            ("vendor", &self.vendor, true),
            ("name", &self.name, false),
            ("version", &self.version, false),
            ("arch", &self.arch, true),
        ];
        for (field, text, may_be_empty) in parts {
            if text.is_empty() && !may_be_empty {
                return Err(Invalid::new(field, "is empty"));
            }
            if !text.bytes().all(is_sane) {
                let problem = format!("{text:?} holds a character that no package has");
                return Err(Invalid::new(field, problem));
            }
        }
        if self.vendor.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(Invalid::new("vendor", "must be lower-case"));
        }
        if self.to_string().len() > PURL_MAX {
            let problem = format!("has more than {PURL_MAX} bytes as a purl");
            return Err(Invalid::new("package", problem));
        }
        Ok(())
    }

    /// Version and epoch as a purl has them: only that of an rpm stands apart.
    fn split_version(&self) -> (&str, Option<&str>) {
        match (self.kind, self.version.split_once(':')) {
            (PackageKind::Rpm, Some((epoch, version))) => (version, Some(epoch)),
            (PackageKind::Rpm | PackageKind::Deb, _) => (&self.version, None),
        }
    }
}

/// A name as purls spell it.
pub fn escaped_name(name: &str) -> String {
    Escaped(name).to_string()
}

/// The name in a valid purl, as it is spelled there: comparing it with [`escaped_name`] spares parsing the others of a
/// long list.
pub fn name_in(purl: &str) -> &str {
    let path = purl.split_once('?').map_or(purl, |(path, _)| path);
    let path = path.rsplit_once('@').map_or(path, |(path, _)| path);
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Printable ASCII but for what is quoting in shells and JSON, and the slash that separates in purls.
fn is_sane(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'/' | b'\'' | b'`')
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.kind.as_str())?;
        if !self.vendor.is_empty() {
            write!(f, "{}/", Escaped(&self.vendor))?;
        }
        let (version, epoch) = self.split_version();
        write!(f, "{}@{}", Escaped(&self.name), Escaped(version))?;
        let arch = Some(self.arch.as_str()).filter(|arch| !arch.is_empty());
        let mut mark = '?';
        for (key, value) in [("arch", arch), ("epoch", epoch)] {
            if let Some(value) = value {
                write!(f, "{mark}{key}={}", Escaped(value))?;
                mark = '&';
            }
        }
        Ok(())
    }
}

impl FromStr for Package {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |problem: &str| {
            // Hostile text is repeated only where it is short.
            let shown: String = text.chars().take(80).collect();
            Invalid::new("purl", format!("{shown:?} {problem}"))
        };
        if text.len() > PURL_MAX {
            return Err(wrong("is too long"));
        }
        let package = parse(text).ok_or_else(|| wrong("is not the purl of a deb or rpm"))?;
        package.check()?;
        if package.to_string() == text {
            Ok(package)
        } else {
            Err(wrong("is not spelled canonically"))
        }
    }
}

fn parse(text: &str) -> Option<Package> {
    let rest = text.strip_prefix("pkg:")?;
    let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
    let (kind, rest) = rest.split_once('/')?;
    let kind = match kind {
        "deb" => PackageKind::Deb,
        "rpm" => PackageKind::Rpm,
        _ => return None,
    };
    let (path, version) = rest.rsplit_once('@')?;
    let (vendor, name) = path.split_once('/').unwrap_or(("", path));
    let (mut arch, mut epoch) = (String::new(), None);
    for pair in qualifiers.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("arch", value) => arch = unescaped(value)?,
            ("epoch", value) if kind == PackageKind::Rpm => epoch = Some(unescaped(value)?),
            _ => return None,
        }
    }
    let version = unescaped(version)?;
    Some(Package {
        kind,
        vendor: unescaped(vendor)?,
        name: unescaped(name)?,
        version: epoch.map_or_else(|| version.clone(), |epoch| format!("{epoch}:{version}")),
        arch,
    })
}

/// Percent-encoded.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                    write!(f, "{}", char::from(byte))?;
                }
                other => write!(f, "%{other:02X}")?,
            }
        }
        Ok(())
    }
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn package(kind: PackageKind, [vendor, name, version, arch]: [&str; 4]) -> Package {
        Package {
            kind,
            vendor: vendor.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
        }
    }

    #[test]
    fn purls_are_spelled_as_the_specification_says() {
        use PackageKind::{Deb, Rpm};
        let known = [
            (
                package(Deb, ["debian", "openssl", "3.0.11-1~deb12u2", "amd64"]),
                "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64",
            ),
            (
                package(Deb, ["debian", "libstdc++6", "12.2.0-14+b1", "i386"]),
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bb1?arch=i386",
            ),
            (
                package(Deb, ["ubuntu", "vim", "2:9.0.1378-2", "amd64"]),
                "pkg:deb/ubuntu/vim@2:9.0.1378-2?arch=amd64",
            ),
            (
                package(Rpm, ["fedora", "curl", "7.50.3-1.fc25", "i386"]),
                "pkg:rpm/fedora/curl@7.50.3-1.fc25?arch=i386",
            ),
            (
                package(Rpm, ["rhel", "openssl", "1:3.0.7-24.el9", "x86_64"]),
                "pkg:rpm/rhel/openssl@3.0.7-24.el9?arch=x86_64&epoch=1",
            ),
            (
                package(Rpm, ["", "NetworkManager", "1.0^git1-1", ""]),
                "pkg:rpm/NetworkManager@1.0%5Egit1-1",
            ),
        ];
        for (package, purl) in known {
            assert_eq!(package.to_string(), purl);
            assert_eq!(name_in(purl), escaped_name(&package.name));
            assert_eq!(purl.parse::<Package>().unwrap(), package);
        }
    }

    #[test]
    fn hostile_and_second_spellings_are_refused() {
        for text in [
            "",
            "pkg:",
            "pkg:deb/debian/@1",
            "pkg:deb/debian/bash",
            "pkg:deb/debian/bash@",
            "pkg:npm/left-pad@1",
            "pkg://deb/debian/bash@1",
            "pkg:deb/Debian/bash@1",
            "pkg:deb/debian/b%61sh@1",
            "pkg:deb/debian/libc++@1",
            "pkg:deb/debian/ba%2Fsh@1",
            "pkg:deb/debian/ba%00sh@1",
            "pkg:deb/debian/ba%zzsh@1",
            "pkg:deb/debian/ba%2",
            "pkg:deb/debian/bash@1?arch=",
            "pkg:deb/debian/bash@1?epoch=1",
            "pkg:rpm/fedora/bash@1?epoch=1&arch=x86_64",
            "pkg:deb/debian/bash@1?arch=amd64&distro=x",
            "pkg:deb/debian/b\u{e4}sh@1",
            "pkg:deb/debian/bash@1\n",
        ] {
            assert!(text.parse::<Package>().is_err(), "{text:?}");
        }
        let long = format!("pkg:deb/debian/{}@1", "a".repeat(PURL_MAX));
        assert!(long.parse::<Package>().unwrap_err().to_string().len() < 200);
    }

    proptest! {
        #[test]
        fn no_text_ends_the_process_and_what_parses_has_one_spelling(text in "(pkg:(deb|rpm)/)?[ -~%/@?&=]{0,60}") {
            if let Ok(package) = text.parse::<Package>() {
                prop_assert_eq!(package.to_string(), text);
            }
        }
    }
}
