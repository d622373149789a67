//! TLS with libpq's meaning of `sslmode`: what is encrypted, what is verified, and what is tried in which order.
//!
//! Differences, all stricter except the first: `verify-ca` and `verify-full` without any root file
//! trust the authorities of the system; a file that is named but missing is a mistake; a host name
//! is looked for in the certificate's alternative names only, never in its common name.

use std::error::Error as _;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What the driver gives for a connection that may be encrypted.
pub type TlsConnection =
    (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// `sslmode`, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// No TLS.
    Disable,
    /// Without TLS; with it where the server refuses that.
    Allow,
    /// With TLS; without it where the server does not offer it or refuses us that way.
    #[default]
    Prefer,
    /// TLS, without asking who answers, as libpq does; with a root file the same as `verify-ca`.
    Require,
    /// TLS, and the certificate comes from a known authority.
    VerifyCa,
    /// TLS, and the certificate is the host's.
    VerifyFull,
}

impl Mode {
    /// Reads libpq's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

/// The TLS part of a connection URL.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// `sslmode`.
    pub mode: Mode,
    /// `sslrootcert`: a PEM file, or `system`. With a file, every mode that uses TLS verifies the authority.
    pub root_cert: Option<PathBuf>,
    /// `sslcert`: the client's certificate, a PEM file.
    pub cert: Option<PathBuf>,
    /// `sslkey`: the client's key, a PEM file.
    pub key: Option<PathBuf>,
    /// `channel_binding`: whether the password exchange is tied to the server's certificate.
    pub channel_binding: Option<ChannelBinding>,
}

/// TLS settings that cannot be used, as one sentence.
#[derive(Debug)]
pub struct UnusableTls(String);

impl fmt::Display for UnusableTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnusableTls {}

impl TlsSettings {
    /// The connector that does what the settings say.
    pub fn connector(&self) -> Result<MakeRustlsConnect, UnusableTls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| UnusableTls(format!("TLS cannot be set up: {error}")))?
            .dangerous();
        if self.mode == Mode::Disable {
            // Files that are not used may be missing.
            let verifier = Verifier { authority: None, host_name: false, provider };
            let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
            return Ok(MakeRustlsConnect::new(builder.with_no_client_auth()));
        }
        let verifier = Verifier {
            authority: self.authority(&provider)?,
            host_name: self.mode == Mode::VerifyFull,
            provider,
        };
        let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(certificates("sslcert", cert)?, private_key(key)?)
                .map_err(|error| {
                    let (cert, key) = (cert.display(), key.display());
                    UnusableTls(format!("sslcert {cert} and sslkey {key} do not fit: {error}"))
                })?,
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(UnusableTls("sslcert and sslkey are needed together".into())),
        };
        Ok(MakeRustlsConnect::new(config))
    }

    /// Who may have signed the server's certificate; None where nobody asks.
    fn authority(&self, provider: &Arc<CryptoProvider>) -> Result<Option<Authority>, UnusableTls> {
        let mut roots = RootCertStore::empty();
        let mut file = Vec::new();
        let name = match &self.root_cert {
            Some(path) if path != Path::new("system") => {
                file = certificates("sslrootcert", path)?;
                for certificate in &file {
                    roots.add(certificate.clone()).map_err(|error| {
                        UnusableTls(format!("sslrootcert {}: {error}", named(path)))
                    })?;
                }
                path.display().to_string()
            }
            None if !matches!(self.mode, Mode::VerifyCa | Mode::VerifyFull) => return Ok(None),
            // Certificates of the system that do not parse are left out, as other clients do.
            _ => {
                _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(UnusableTls(
                        "the system has no certificates of authorities; name a file in sslrootcert"
                            .into(),
                    ));
                }
                "the system's list".to_string()
            }
        };
        let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|error| UnusableTls(format!("sslrootcert cannot be used: {error}")))?;
        Ok(Some(Authority { inner, file, name }))
    }

    /// Connects in the order that the mode asks for.
    pub(crate) async fn connect(
        &self,
        config: &tokio_postgres::Config,
        connector: &MakeRustlsConnect,
    ) -> Result<TlsConnection, tokio_postgres::Error> {
        let attempt = |mode| {
            let mut config = config.clone();
            config.ssl_mode(mode);
            let connector = connector.clone();
            async move { config.connect(connector).await }
        };
        match self.mode {
            Mode::Disable => attempt(SslMode::Disable).await,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => attempt(SslMode::Require).await,
            Mode::Prefer => match attempt(SslMode::Require).await {
                // Of two reasons the one of the attempt with TLS is more useful, unless the server
                // offers no TLS.
                Err(first) if another_way_may_do(&first) => {
                    attempt(SslMode::Disable).await.map_err(|second| match offers_no_tls(&first) {
                        true => second,
                        false => first,
                    })
                }
                opened => opened,
            },
            Mode::Allow => match attempt(SslMode::Disable).await {
                Err(first) if another_way_may_do(&first) => {
                    attempt(SslMode::Require).await.map_err(|second| match offers_no_tls(&second) {
                        true => first,
                        false => second,
                    })
                }
                opened => opened,
            },
        }
    }
}

/// The server has answered, but does not let us in this way: by its rules or by its certificate.
fn another_way_may_do(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(state) => state.code().starts_with("28"),
        // The driver does not name the kind of its errors otherwise.
        None => error.to_string().starts_with("error performing TLS handshake"),
    }
}

fn offers_no_tls(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.to_string() == "server does not support TLS")
}

/// A file's name for people. What looks like no path may be a URL or a password in the wrong place, and is not repeated.
fn named(path: &Path) -> String {
    let text = path.display().to_string();
    match text.contains("://") || !text.contains(['/', '.']) {
        true => "is not the name of a file".into(),
        false => text,
    }
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, UnusableTls> {
    let unreadable =
        |reason: &dyn fmt::Display| UnusableTls(format!("{setting} {}: {reason}", named(path)));
    // Read here and not by the parser: its error would hide the system's.
    let text = std::fs::read(path).map_err(|error| unreadable(&error))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))?;
    match found.is_empty() {
        true => Err(unreadable(&"no certificate is in this file")),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, UnusableTls> {
    let unusable =
        |reason: &dyn fmt::Display| UnusableTls(format!("sslkey {}: {reason}", named(path)));
    let found = std::fs::metadata(path).map_err(|error| unusable(&error))?;
    // libpq's rule: root may lend its key to a group, nobody else lends theirs.
    let forbidden = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.mode() & forbidden != 0 {
        return Err(unusable(&"others may read or write this key; chmod it to 0600"));
    }
    let text = std::fs::read(path).map_err(|error| unusable(&error))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| unusable(&"no key without a passphrase is in this file"))
}

/// Verifies as much of the server's certificate as the mode asks for.
#[derive(Debug)]
struct Verifier {
    /// None: any certificate is accepted, as long as the channel is encrypted.
    authority: Option<Authority>,
    /// Whether the certificate must be for the host we asked for.
    host_name: bool,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct Authority {
    inner: Arc<WebPkiServerVerifier>,
    /// What `sslrootcert` holds.
    file: Vec<CertificateDer<'static>>,
    /// Where the roots came from, for the message.
    name: String,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = Ok(ServerCertVerified::assertion());
        let Some(authority) = &self.authority else { return verified };
        let verdict = authority.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let Err(rustls::Error::InvalidCertificate(mut flaw)) = verdict else { return verdict };

        // `openssl req -x509` marks its certificates as authorities. The file may hold the very one. Its dates
        // were checked before this flaw was found, its host name was not.
        if is_an_authority(&flaw) && authority.file.contains(end_entity) {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            match rustls::client::verify_server_name(&certificate, server_name) {
                Err(rustls::Error::InvalidCertificate(other)) => flaw = other,
                Err(error) => return Err(error),
                Ok(()) => return verified,
            }
        }
        // The name is looked at last, so everything else is right.
        if names_another_host(&flaw) && !self.host_name {
            return verified;
        }
        Err(explained(flaw, server_name, &authority.name))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn names_another_host(flaw: &CertificateError) -> bool {
    matches!(
        flaw,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    )
}

fn is_an_authority(flaw: &CertificateError) -> bool {
    matches!(flaw, CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity")
}

/// The flaw as a sentence; the library's own text is names and numbers.
fn explained(flaw: CertificateError, host: &ServerName<'_>, roots: &str) -> rustls::Error {
    use CertificateError as Flaw;
    let what = match &flaw {
        Flaw::UnknownIssuer | Flaw::BadSignature => {
            format!("is not from an authority in {roots}")
        }
        flaw if is_an_authority(flaw) => format!("is itself an authority that is not in {roots}"),
        Flaw::Expired | Flaw::ExpiredContext { .. } => "has expired".to_string(),
        Flaw::NotValidYet | Flaw::NotValidYetContext { .. } => "is not valid yet".to_string(),
        flaw if names_another_host(flaw) => format!("is not for host {}", host.to_str()),
        _ => return flaw.into(),
    };
    OtherError(Arc::new(UnusableTls(format!("the server's certificate {what}")))).into()
}
