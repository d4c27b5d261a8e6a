//! Who may read: credentials, rights, and the audit log.

mod audit_log;
mod client_certificates;
mod requests;
mod tls;
mod tokens;
mod views;
mod views_changing;
