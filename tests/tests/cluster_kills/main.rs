//! An installation whose parts are killed one by one, and upgraded, while its users call: who sees what, and how
//! long it takes until all is as it was. `make test-cluster`.
//!
//! Everything is as operators of a cluster have it: the chart, the images, two replicas of each program. Only the
//! users' MCP server is the fixture's.

mod control_plane;
mod installation;
mod load;
mod programs;
mod recovery;
mod upgrades;
mod values;
