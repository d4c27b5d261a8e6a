//! Who may read: credentials, rights, and the audit log.

mod audit_log;
mod audit_log_disks;
mod audit_log_page;
mod client_certificates;
mod hostile_tokens;
mod key_servers;
mod passwords;
mod requests;
mod secrets;
mod token_requests;
mod tokens;
mod views;
mod views_changing;
mod views_memory;
