// Command dashboards writes deploy/prometheus/deckle.rules.yml and deploy/grafana/deckle.json, from the tables in
// alerts.go and panels.go and from the table of conditions:
//
//	go generate ./integration/dashboards
//
// Its tests compare both files with what it would write, evaluate every expression by Prometheus's own engine over
// scrapes of three running nodes, have every alert fire on written series, and look for the section of
// docs/operations.md that each alert names. They are here, and not in the main module, so that Prometheus is no part of
// what the product is built of.
package main

//go:generate go run . -dir ../../deploy
