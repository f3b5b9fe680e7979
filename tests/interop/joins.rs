//! Who finds whom, and what they know of each other.

use std::time::Duration;

use crate::cell;
use crate::cell::{Cluster, Setting};
use crate::peer::Kind::{self, Memberlist, Picored, Serf};
use crate::peer::Options;

const SOON: Duration = Duration::from_secs(10);

fn one_joins_the_other(kinds: [Kind; 2], options: &Options) -> String {
    let cluster = Cluster::start(&kinds, options);
    format!("{:.1} s", cluster.wait_for_agreement(SOON).as_secs_f64())
}

cell!(picored_joins_serf, "picored joins Serf", super::picored_joins_serf_);
fn picored_joins_serf_(setting: &Setting) -> String {
    one_joins_the_other([Serf, Picored], &setting.options())
}

cell!(serf_joins_picored, "Serf joins picored", super::serf_joins_picored_);
fn serf_joins_picored_(setting: &Setting) -> String {
    one_joins_the_other([Picored, Serf], &setting.options())
}

cell!(mixed, "2 picored, 2 Serf, 1 memberlist agree", super::mixed_);
fn mixed_(setting: &Setting) -> String {
    let cluster = Cluster::start(&[Picored, Serf, Memberlist, Serf, Picored], &setting.options());
    format!("{:.1} s", cluster.wait_for_agreement(SOON).as_secs_f64())
}
