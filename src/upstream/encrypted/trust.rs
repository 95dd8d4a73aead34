//! Who may sign for encrypted servers: those in the file of `forward.ca`, or those whom the system trusts, or, in an
//! image without any files, those whom Mozilla does; and who we prove to be to them, where that is configured.
//!
//! Files that are named are read for every connection, so that renewed ones are taken up. The system's are some hundred certificates
//! in as many files, and part of the image: read once, when the first server needs them.

use crate::upstream::Identity;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The environment variables that say where the system's certificates are, as OpenSSL knows them.
const PLACES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The certificates in `ca`, or the system's; the error says what is wrong.
pub(super) async fn roots(ca: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    static SYSTEM: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    let Some(path) = ca else {
        let read = || async { tokio::task::spawn_blocking(system).await.map_err(|error| error.to_string())? };
        return SYSTEM.get_or_try_init(read).await.cloned();
    };
    let wrong = |what: &dyn Display| format!("cannot use {} (forward.ca): {what}", path.display());
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let store = store(certificates.map_err(|error| wrong(&error))?);
    if store.is_empty() { Err(wrong(&"no certificate of an issuer in it")) } else { Ok(Arc::new(store)) }
}

/// The certificates and the key by which a client proves who it is; the error says what is wrong. Read for every
/// connection, as the issuers are.
pub(super) fn identity(files: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let Identity { certificate, key } = files;
    let wrong =
        |path: &Path, name: &str, what: &dyn Display| format!("cannot use {} (forward.{name}): {what}", path.display());
    let read = |path: &Path, name| std::fs::read(path).map_err(|error| wrong(path, name, &error));
    let chain = CertificateDer::pem_slice_iter(&read(certificate, "certificate")?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(certificate, "certificate", &error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "certificate", &"no certificate in it"));
    }
    let secret = PrivateKeyDer::from_pem_slice(&read(key, "key")?);
    Ok((chain, secret.map_err(|error| wrong(key, "key", &error))?))
}

/// Whom the system trusts. Where it was said who they are, nobody else will do.
fn system() -> Result<Arc<RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = store(found.certs);
    if store.is_empty() {
        if let Some(place) = PLACES.into_iter().find(|place| std::env::var_os(place).is_some()) {
            let why = found.errors.first().map_or("no certificate of an issuer".to_owned(), ToString::to_string);
            return Err(format!("cannot use what {place} names: {why}"));
        }
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    tracing::debug!(issuers = store.len(), "read whom the system trusts");
    Ok(Arc::new(store))
}

/// Those of `certificates` that can be used.
fn store(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    store
}
