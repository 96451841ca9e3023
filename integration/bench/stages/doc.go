// Package stages has a Go benchmark of each stage that an event goes through, with the simulator's events: 1 KB each,
// 2,000 live sessions of 12 events. The benchmarks use exported functions only, so that the same file runs on an older
// tree: that is how CI compares the two (`make bench-ci`). Every benchmark reports ns/event.
package stages
