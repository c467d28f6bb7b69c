//! Debian's package index, through the machine's own apt, with a configuration of its own.
//!
//! The machine's mirror and keyring are used; its package lists, its caches and its installed packages are not
//! touched. apt verifies the signatures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::{Cache, make_folder};
use super::{Error, process};

/// Where Debian keeps the archive's keys; the name changed once.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Suites that only Debian has: by these its mirror is told from other vendors' in the machine's sources.
const SUITES: [&str; 9] =
    ["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The address of the main archive.
    pub main: String,
    /// The address of the security archive.
    pub security: String,
}

/// One line of sources: an address with its suites.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
}

impl Mirror {
    /// The mirror that this machine's apt uses.
    ///
    /// # Errors
    /// [`Error::NoMirror`] when its sources name none of Debian's suites.
    pub fn of_machine() -> Result<Self, Error> {
        let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
        let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
        let mut parts: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
        parts.sort();
        paths.append(&mut parts);
        let mut sources = Vec::new();
        for path in paths {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("sources") => sources.extend(deb822_sources(&text)),
                Some("list") => sources.extend(line_sources(&text)),
                _ => {}
            }
        }
        Self::among(&sources).ok_or(Error::NoMirror)
    }

    /// A mirror by the address of its main archive.
    #[must_use]
    pub fn at(main: &str) -> Self {
        let main = main.trim_end_matches('/').to_owned();
        Self { security: format!("{main}-security"), main }
    }

    fn among(sources: &[Source]) -> Option<Self> {
        let with = |wanted: &dyn Fn(&str) -> bool| {
            sources.iter().find(|source| source.suites.iter().any(|suite| wanted(suite)))
        };
        let main = with(&|suite| SUITES.contains(&suite))?;
        let security = with(&|suite| suite.strip_suffix("-security").is_some_and(|release| SUITES.contains(&release)));
        let guessed = Self::at(&main.uri);
        let security = security.map_or(guessed.security, |source| source.uri.trim_end_matches('/').to_owned());
        Some(Self { security, main: guessed.main })
    }

    /// The line of a `sources.list` for a suite.
    fn line(&self, suite: &str, keyring: &str) -> String {
        let address = if suite.ends_with("-security") { &self.security } else { &self.main };
        format!("deb [arch=amd64 signed-by={keyring}] {address} {suite} main\n")
    }

    /// The `sources.list` for several suites.
    ///
    /// # Errors
    /// [`Error::NoKeyring`].
    pub fn sources(&self, suites: &[&str]) -> Result<String, Error> {
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists()).ok_or(Error::NoKeyring)?;
        Ok(suites.iter().map(|suite| self.line(suite, keyring)).collect())
    }
}

fn line_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            sources.push(Source { uri: uri.to_owned(), suites: vec![suite.to_owned()] });
        }
    }
    sources
}

fn deb822_sources(text: &str) -> Vec<Source> {
    let words = |stanza: &Stanza, field: &str| -> Vec<String> {
        stanza.get(field).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let mut sources = Vec::new();
    for stanza in stanzas(text) {
        let disabled = stanza.get("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let binary = words(&stanza, "Types").iter().any(|kind| kind == "deb");
        if let (Some(uri), true, false) = (words(&stanza, "URIs").into_iter().next(), binary, disabled) {
            sources.push(Source { uri, suites: words(&stanza, "Suites") });
        }
    }
    sources
}

/// One package's entry in an index: fields by name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stanza(Vec<(String, String)>);

impl Stanza {
    /// The value of a field, its continuation lines joined.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| value.as_str())
    }

    /// The names of the packages that this one depends on; of alternatives the first.
    #[must_use]
    pub fn depends(&self) -> Vec<String> {
        let names = self.get("Depends").unwrap_or_default().split(',');
        names.filter_map(|one| one.split_whitespace().next()).map(str::to_owned).collect()
    }
}

/// Parses control stanzas, as apt and dpkg print them.
#[must_use]
pub fn stanzas(text: &str) -> Vec<Stanza> {
    let mut found = Vec::new();
    let mut current = Stanza::default();
    for line in text.lines().filter(|line| !line.starts_with('#')).chain([""]) {
        if line.trim().is_empty() {
            if !current.0.is_empty() {
                found.push(std::mem::take(&mut current));
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = current.0.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            current.0.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// The index of some suites, downloaded into a folder of its own.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    suites: String,
}

impl Index {
    /// Downloads the index of `suites` into the cache; what is there from an earlier time is only brought up to date.
    /// The cache's lock for downloads must be held.
    ///
    /// # Errors
    /// When apt cannot reach the mirror or does not trust what it got.
    pub fn update(cache: &Cache, mirror: &Mirror, suites: &[&str]) -> Result<Self, Error> {
        let folder = cache.path("apt").join(suites.join("+"));
        for part in ["lists/partial", "cache/archives/partial"] {
            make_folder(&folder.join(part))?;
        }
        let list = folder.join("sources.list");
        fs::write(&list, mirror.sources(suites)?).map_err(Error::io("write", &list))?;
        let index = Self { folder, suites: suites.join(", ") };
        process::output(index.apt("apt-get").args(["update", "-qq", "--error-on=any"]))?;
        Ok(index)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = process::tool(program);
        let folder = self.folder.display();
        command.env("LC_ALL", "C");
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Default-Release=".to_owned(),
            // Only the package index: no translations, no application metadata.
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
            // A mirror may lag behind on sid, and old suites are no longer signed anew.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg(format!("-o{option}"));
        }
        command
    }

    /// The newest entry of a package.
    ///
    /// # Errors
    /// [`Error::NotInSuite`], with the names that resemble it.
    pub fn show(&self, package: &str) -> Result<Stanza, Error> {
        let shown = process::output(self.apt("apt-cache").args(["show", "--no-all-versions", package]));
        let text = shown.unwrap_or_default();
        if let Some(stanza) = stanzas(&String::from_utf8_lossy(&text)).into_iter().next() {
            return Ok(stanza);
        }
        let head = package.split(|letter: char| letter.is_ascii_digit()).next().unwrap_or(package);
        let names = process::output(self.apt("apt-cache").args(["pkgnames", head]))?;
        let mut names: Vec<String> = String::from_utf8_lossy(&names).lines().map(str::to_owned).collect();
        names.sort();
        names.truncate(20);
        Err(Error::NotInSuite { suite: self.suites.clone(), wanted: package.to_owned(), offered: names.join(" ") })
    }

    /// Downloads packages (`name` or `name=version`) and unpacks them over each other into `tree`.
    ///
    /// # Errors
    /// When apt cannot get one, does not trust it, or dpkg cannot unpack it.
    pub fn unpack(&self, packages: &[String], scratch: &Path, tree: &Path) -> Result<(), Error> {
        make_folder(scratch)?;
        make_folder(tree)?;
        process::output(self.apt("apt-get").args(["download", "-qq"]).args(packages).current_dir(scratch))?;
        for entry in fs::read_dir(scratch).map_err(Error::io("read", scratch))? {
            let path = entry.map_err(Error::io("read", scratch))?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                process::output(process::tool("dpkg").arg("-x").arg(&path).arg(tree))?;
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "Types: deb\n# a note\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\n\n\
        Types: deb\nURIs: http://mirror.example/safe\nSuites: bookworm-security\n\n\
        Types: deb\nURIs: http://off.example/debian\nSuites: trixie\nEnabled: no\n";

    #[test]
    fn mirror_from_deb822_sources() {
        let mirror = Mirror::among(&deb822_sources(DEB822)).unwrap();
        assert_eq!(mirror.main, "http://mirror.example/debian");
        assert_eq!(mirror.security, "http://mirror.example/safe");
    }

    #[test]
    fn mirror_from_lines_passes_over_other_vendors() {
        let text = "# deb http://c.example/debian sid main\ndeb [arch=amd64 signed-by=/k] http://v.example/apt tool-bookworm main\n\
            deb-src http://s.example/debian trixie main\ndeb [signed-by=/k] http://d.example/debian trixie main contrib\n";
        let mirror = Mirror::among(&line_sources(text)).unwrap();
        assert_eq!(mirror, Mirror::at("http://d.example/debian"));
        assert_eq!(mirror.security, "http://d.example/debian-security");
        assert_eq!(Mirror::among(&line_sources("deb http://v.example/apt tool main")), None);
    }

    #[test]
    fn security_suites_come_from_the_security_archive() {
        let mirror = Mirror::at("http://m.example/debian");
        assert_eq!(
            mirror.line("bullseye-security", "/k"),
            "deb [arch=amd64 signed-by=/k] http://m.example/debian-security bullseye-security main\n"
        );
        assert_eq!(mirror.line("sid", "/k"), "deb [arch=amd64 signed-by=/k] http://m.example/debian sid main\n");
    }

    #[test]
    fn stanzas_and_their_dependencies() {
        let text = "Package: a\nDepends: kmod, b-1 (= 1), c | d (>= 2)\nDescription: x\n more\n\nPackage: e\n";
        let found = stanzas(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].depends(), ["kmod", "b-1", "c"]);
        assert_eq!(found[0].get("description"), Some("x\nmore"));
        assert!(found[1].depends().is_empty());
    }
}
