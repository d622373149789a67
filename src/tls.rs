//! TLS with libpq's meaning of `sslmode`: what is encrypted, and what is verified.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// `sslmode`, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it (libpq's `allow` is treated like its default).
    #[default]
    Prefer,
    /// TLS, without asking who answers, as libpq does; with `sslrootcert` the same as `verify-ca`.
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
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// The TLS part of a connection URL.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `sslmode`.
    pub mode: Mode,
    /// `sslrootcert`: a PEM file, or `system`.
    pub root_cert: Option<PathBuf>,
    /// `sslcert`: the client's certificate, a PEM file.
    pub cert: Option<PathBuf>,
    /// `sslkey`: the client's key, a PEM file.
    pub key: Option<PathBuf>,
}

/// TLS settings that cannot be used, as one sentence.
#[derive(Debug)]
pub struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

impl Settings {
    /// The connector that does what the settings say.
    pub fn connector(&self) -> Result<MakeRustlsConnect, Unusable> {
        let provider = Arc::new(ring::default_provider());
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|error| Unusable(format!("sslcert and sslkey do not fit: {error}")))?,
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(Unusable("sslcert and sslkey are needed together".into())),
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Unusable> {
        let mode = match self.mode {
            // libpq: "if a root CA file exists, require behaves like verify-ca".
            Mode::Require if self.root_cert.is_some() => Mode::VerifyCa,
            mode => mode,
        };
        if matches!(mode, Mode::Disable | Mode::Prefer | Mode::Require) {
            return Ok(Arc::new(AnyCertificate(provider.clone())));
        }
        let inner =
            WebPkiServerVerifier::builder_with_provider(self.roots()?.into(), provider.clone())
                .build()
                .map_err(|error| Unusable(format!("sslrootcert cannot be used: {error}")))?;
        Ok(match mode {
            Mode::VerifyCa => Arc::new(AnyHostName(inner)),
            _ => inner,
        })
    }

    fn roots(&self) -> Result<RootCertStore, Unusable> {
        let mut roots = RootCertStore::empty();
        match &self.root_cert {
            Some(path) if path != Path::new("system") => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| {
                        Unusable(format!("sslrootcert {}: {error}", path.display()))
                    })?;
                }
            }
            // Certificates of the system that do not parse are left out, as other clients do.
            _ => {
                _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| {
        Unusable(format!("cannot read certificates in {}: {error}", path.display()))
    })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| Unusable(format!("cannot read a key in {}: {error}", path.display())))
}

/// Encrypts without asking who answers: `prefer` and `require`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies the authority but not the host name: `verify-ca`.
#[derive(Debug)]
struct AnyHostName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHostName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
