package config

import "net/url"

// Tracing is where the traces of plans are sent, by OTLP over HTTP (OpenTelemetry Protocol 1); nil: there are none.
type Tracing struct {
	// URL of a collector; without a path it is that of /v1/traces, as OTLP has it
	Endpoint string `yaml:"endpoint"`
	Sample   int    `yaml:"sample" default:"1"` // one plan of so many is traced
	Token    Secret `yaml:"token"`              // shown to the collector, as a bearer token; by default none
	TLS      *TLS   `yaml:"tls"`                // CAs of an https URL, and what is shown to it
}

func (t *Tracing) check(k *checker) {
	if t == nil {
		return
	}
	const at = "tracing."
	k.atLeast(at+"sample", int64(t.Sample), 1)
	if !k.need(at+"endpoint", t.Endpoint, "the URL of a collector, e.g. https://collector:4318") {
		return
	}
	u, err := url.Parse(t.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" ||
		u.Fragment != "" {
		k.add(at+"endpoint", "%q is no http or https URL of a host", t.Endpoint)
		return
	}
	if !k.host(at+"endpoint", u) || u.Scheme == "https" {
		return
	}
	if t.TLS != nil {
		k.add(at+"tls", "needs an https URL in tracing.endpoint")
	}
	if t.Token.IsSet() && !Loopback(u.Host) {
		k.add(at+"token", "is not sent to %s without TLS: use an https URL in tracing.endpoint", u.Host)
	}
}
