// Package stages holds Go benchmarks of each stage that an event goes through, on the simulator's events: 1 KB each, 2,000 live
// sessions of 12 events. They use exported functions only, so that the same file runs on an older tree: that is how CI compares
// the two (`make bench-ci`). Every one reports ns/event.
package stages
