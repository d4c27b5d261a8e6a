//! Who may read: credentials, rights, and the audit log.

mod audit_log;
mod requests;
mod tls;
