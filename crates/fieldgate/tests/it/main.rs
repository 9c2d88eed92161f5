//! Tests of the whole binary over real sockets, with clients of ours and of others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking"
)]

mod admin;
mod asyncapi;
mod audit;
mod bounds;
mod browser;
mod cli;
mod config;
mod conformance;
mod contract;
mod crossing;
mod crowd;
mod deconz;
mod deconz_doc;
mod deconz_keys;
mod deconz_push;
mod deliveries;
mod demo;
mod desired;
mod doc;
mod documents;
mod edge;
mod edits;
mod engineio;
mod errors;
mod foreign;
mod groups;
mod heartbeats;
mod history;
mod idempotency;
mod integrations;
mod issuers;
mod kamea;
mod kamea_service;
mod kept;
mod lanes;
mod lesson;
mod limits;
mod mistakes;
mod native;
mod operate;
mod oracle;
mod pace;
mod polling;
mod profiles;
mod reached;
mod redelivery;
mod rest;
mod restart;
mod scenes;
mod secrets;
mod seed000;
mod shutdown;
mod sign_in;
mod signing;
mod since;
mod slow;
mod socketio;
mod socketio_acks;
mod socketio_python;
mod socketio_texts;
mod socketio_two;
mod socketio_waits;
mod started;
mod state;
mod stream;
mod support;
mod takeover;
mod tenants;
mod thethings;
mod thethings_apps;
mod thethings_reads;
mod thingsee_down;
mod thingsee_faults;
mod thingsee_in;
mod thingsee_out;
mod tickets;
mod tidy;
mod tls;
