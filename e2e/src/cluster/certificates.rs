//! The cluster's certificates, made by openssl: one authority, and a certificate for every server and user.
//!
//! Users are whoever a certificate's subject says, so any user with any groups can be made at any time.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::Result;
use crate::vm::{Error, cache, process};

/// How long certificates hold; a cluster does not live that long.
const DAYS: &str = "30";

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// What a kubeconfig says of a user who has it.
    pub(crate) fn credentials(&self) -> Value {
        json!({"client-certificate": self.certificate, "client-key": self.key})
    }
}

/// The cluster's certificate authority, in a folder of its own.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes the authority, and the key that signs service accounts' tokens.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        cache::make_folder(folder)?;
        let authority = Self::at(folder);
        authority.new_key("ca")?;
        authority.new_key("service-accounts")?;
        let mut openssl = authority.openssl("req");
        openssl.args(["-x509", "-new", "-key", "ca.key", "-out", "ca.crt", "-days", DAYS, "-subj", "/CN=mooring-test"]);
        process::output(openssl.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]))?;
        let public = authority.folder.join("service-accounts.pub");
        process::output(
            authority.openssl("pkey").args(["-in", "service-accounts.key", "-pubout", "-out"]).arg(public),
        )?;
        Ok(authority)
    }

    /// The authority that was made in `folder`.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// A file of the authority: `ca.crt`, `service-accounts.key`, `service-accounts.pub`, or `NAME.crt` and `NAME.key`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A server's certificate for `names` (`DNS:…`, `IP:…`).
    pub(crate) fn server(&self, name: &str, names: &[&str]) -> Result<Pair> {
        let subject = format!("/CN={name}");
        self.issue(name, &subject, &format!("extendedKeyUsage=serverAuth\nsubjectAltName={}\n", names.join(",")))
    }

    /// A user's certificate. `name` is what its files are called.
    pub(crate) fn user(&self, name: &str, user: &str, groups: &[&str]) -> Result<Pair> {
        self.issue(name, &subject(user, groups), "extendedKeyUsage=clientAuth\n")
    }

    fn issue(&self, name: &str, subject: &str, extensions: &str) -> Result<Pair> {
        let pair = Pair { certificate: self.file(&format!("{name}.crt")), key: self.file(&format!("{name}.key")) };
        if pair.certificate.exists() {
            return Ok(pair);
        }
        self.new_key(name)?;
        let request = self.file(&format!("{name}.csr"));
        let key = format!("{name}.key");
        process::output(self.openssl("req").args(["-new", "-key", &key, "-subj", subject, "-out"]).arg(&request))?;
        let wanted = self.file(&format!("{name}.ext"));
        fs::write(&wanted, format!("keyUsage=critical,digitalSignature\n{extensions}"))
            .map_err(Error::io("write", &wanted))?;
        // By a rename at the end: another process may ask for the same user.
        let new = self.file(&format!("{name}.new"));
        let mut openssl = self.openssl("x509");
        openssl.args(["-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", DAYS, "-in"]).arg(&request);
        // A number of its own, instead of the file that openssl would count in.
        openssl
            .arg("-set_serial")
            .arg(format!("0x{}", &process::sha256(format!("{name} {subject}").as_bytes())?[..30]));
        process::output(openssl.arg("-extfile").arg(&wanted).arg("-out").arg(&new))?;
        fs::rename(&new, &pair.certificate).map_err(Error::io("publish", &pair.certificate))?;
        Ok(pair)
    }

    fn new_key(&self, name: &str) -> Result<()> {
        let mut openssl = self.openssl("genpkey");
        openssl.args(["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]).arg(format!("{name}.key"));
        process::output(&mut openssl)?;
        Ok(())
    }

    fn openssl(&self, what: &str) -> std::process::Command {
        let mut openssl = process::tool("openssl");
        openssl.arg(what).current_dir(&self.folder);
        openssl
    }
}

/// A subject as openssl reads it, whatever is in the names.
fn subject(user: &str, groups: &[&str]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('/', "\\/").replace('+', "\\+");
    let mut parts: Vec<String> = groups.iter().map(|group| format!("/O={}", quoted(group))).collect();
    parts.push(format!("/CN={}", quoted(user)));
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_keep_their_names() {
        assert_eq!(subject("system:node:node1", &["system:nodes"]), "/O=system:nodes/CN=system:node:node1");
        assert_eq!(subject("a/b", &[]), "/CN=a\\/b");
    }

    #[test]
    fn a_certificate_is_the_authoritys() {
        let folder = std::env::temp_dir().join(format!("mooring-certificates-{}", std::process::id()));
        let authority = Authority::create(&folder).unwrap();
        let server = authority.server("api", &["DNS:kubernetes", "IP:127.0.0.1"]).unwrap();
        let user = authority.user("one", "system:node:node1", &["system:nodes", "others"]).unwrap();
        for (pair, purpose) in [(&server, "sslserver"), (&user, "sslclient")] {
            let mut openssl = process::tool("openssl");
            openssl.args(["verify", "-purpose", purpose, "-CAfile"]).arg(authority.file("ca.crt"));
            process::output(openssl.arg(&pair.certificate)).unwrap();
        }
        let mut openssl = process::tool("openssl");
        openssl.args(["x509", "-noout", "-subject", "-in"]).arg(&user.certificate);
        let shown = String::from_utf8(process::output(&mut openssl).unwrap()).unwrap();
        assert!(
            shown.contains("system:nodes") && shown.contains("others") && shown.contains("system:node:node1"),
            "{shown}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
