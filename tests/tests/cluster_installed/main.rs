//! Patchbay as its users have it: installed by Helm with the images of a release, and used, by nothing but a
//! credential, through two replicas of the gateway. `make test-cluster`.

mod fixtures;
mod hunt;
mod lives;
mod quilt;
mod sources;
mod tools;
mod world;
