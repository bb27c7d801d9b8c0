//! Black-box suites of Patchbay, and the doubles and fixtures that they run against.

pub mod acceptance;
pub mod anywhere;
pub mod authorization_server;
pub mod bench;
pub mod binaries;
pub mod catalog;
pub mod chart;
pub mod clients;
pub mod cluster;
pub mod controller;
pub mod evidence;
pub mod fixture;
pub mod http;
pub mod https;
pub mod inside;
pub mod installation;
pub mod load;
pub mod mcp;
pub mod moto;
pub mod pods;
pub mod processes;
pub mod quilt;
pub mod repository;
pub mod sandbox;
pub mod secrets;
pub mod strict_aws;
