package shard

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/config"
	"deckle/sinks/rights"
)

// hint is what an error that one meets at a service is probably about, in words of the configuration; "" if the error
// says all there is to say. What the other end says of a mix-up (TLS and none, another port, a wrong password) names
// neither the key that is wrong nor what it should be.
func hint(cfg *config.Config, p part, err error, now time.Time) string {
	if err == nil || cfg == nil {
		return ""
	}
	text := err.Error()
	switch _, isSink := sinkNamed(p); {
	case p == "clickhouse" && cfg.ClickHouse != nil:
		c := cfg.ClickHouse
		return cmp.Or(ofTLS("clickhouse", c.TLS, err, now), ofClickHouse(c, err, text))
	case isSink && p != "deadletter" && cfg.Delta != nil && cfg.Delta.S3 != nil:
		return cmp.Or(ofTLS("delta.s3", cfg.Delta.S3.TLS, err, now), ofS3(text))
	case p == "deadletter" || !isSink:
		return cmp.Or(ofKafka(&cfg.Kafka, err, text), ofTLS("kafka", cfg.Kafka.TLS, err, now))
	}
	return ""
}

// ofTLS says what a handshake that failed is about.
func ofTLS(block string, has *config.TLS, err error, now time.Time) string {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return block + ".tls is set, and this port does not speak TLS: give the port that does, or take " + block +
			".tls away"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		c := invalid.Cert
		if now.Before(c.NotBefore) {
			return "its certificate is not valid before " + c.NotBefore.UTC().Format(time.RFC3339) +
				": is this machine's clock right?"
		}
		return "its certificate has expired at " + c.NotAfter.UTC().Format(time.RFC3339) + ": it needs a new one"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if has == nil || has.CA == "" {
			return "its certificate is of a CA that this machine does not know: set " + block + ".tls.ca"
		}
		return block + ".tls.ca does not have the CA of its certificate"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate has no such name: give an address that it has, or set " + block + ".tls.server_name"
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok || strings.Contains(err.Error(), "remote error: tls: ") {
		return "it refuses the handshake: does it demand a certificate of its own CA (" + block + ".tls.cert, " +
			block + ".tls.key)?"
	}
	return ""
}

func ofKafka(cfg *config.Kafka, err error, text string) string {
	_, ended := errors.AsType[*kgo.ErrFirstReadEOF](err)
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "the brokers do not take what kafka.sasl has: user, password or mechanism"
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return "this listener does not take kafka.sasl.mechanism"
	case errors.Is(err, kerr.IllegalSaslState):
		return "this listener has no authentication: give another port, or take kafka.sasl away"
	case strings.Contains(text, "tls alert record"):
		return "this listener speaks TLS: set kafka.tls, or give a port without"
	case ended && cfg.TLS != nil && strings.Contains(text, "after a dial"):
		return "this listener may not speak TLS: give the port that does, or take kafka.tls away"
	case ended && cfg.TLS == nil && cfg.SASL == nil:
		return "this listener may demand TLS (kafka.tls) or authentication (kafka.sasl)"
	case ended && cfg.TLS == nil:
		return "this listener may demand TLS (kafka.tls), or has refused what kafka.sasl has"
	case ended:
		return "this listener may have refused what kafka.sasl has, or demand authentication"
	case cfg.TLS != nil && strings.Contains(text, "unable to dial") &&
		(errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ECONNRESET)):
		return "this listener may not speak TLS: give the port that does, or take kafka.tls away"
	}
	return ""
}

func ofClickHouse(c *config.ClickHouse, err error, text string) string {
	switch {
	case strings.Contains(text, "uthentication failed"):
		return "clickhouse.user or clickhouse.password is wrong"
	case strings.Contains(text, "bad server packet"), strings.Contains(text, "unexpected packet"):
		return "clickhouse.address is to be the port of the native protocol (9000; 9440 with TLS), not that of HTTP"
	case strings.Contains(text, "handshake: ") && errors.Is(err, context.DeadlineExceeded):
		return "nobody answers there in the native protocol: is clickhouse.address its port (9000; 9440 with TLS)?"
	case c.TLS == nil && strings.Contains(text, "handshake: ") && errors.Is(err, io.EOF):
		return "this port may speak TLS: set clickhouse.tls, or give the one without"
	case c.TLS != nil && strings.Contains(text, "TLS: ") && errors.Is(err, io.EOF):
		return "this port may not speak TLS: give the one that does (9440), or take clickhouse.tls away"
	}
	return ""
}

// ofKeys is about those who give keys for S3. What they say names the role, if anything.
func ofKeys(text string) string {
	for _, row := range [][2]string{
		{"web identity token", "delta.s3.token_file has a token that the STS (delta.s3.sts_endpoint) does not take"},
		{"IdentityToken", "delta.s3.token_file has a token that the STS (delta.s3.sts_endpoint) does not take"},
		{"not authorized to perform: sts:", "the STS (delta.s3.sts_endpoint) does not let this account have " +
			"delta.s3.role_arn: its trust policy names the account, and perhaps delta.s3.external_id"},
		{"access denied", "who gives keys (delta.s3.sts_endpoint) refuses this account, or delta.s3.role_arn"},
		{"security token included in the request is invalid", "the STS (delta.s3.sts_endpoint) does not know the " +
			"keys that it is asked with (delta.s3.access_key, or those of the environment or the file)"},
		{"The request signature we calculated does not match", "delta.s3.secret_key does not belong to " +
			"delta.s3.access_key, with which the STS is asked"},
		{"No IAM roles attached", "the machine has no role: give it one, or other delta.s3.credentials"},
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(row[0])) {
			return row[1]
		}
	}
	return ""
}

func ofS3(text string) string {
	if strings.Contains(text, "no S3 keys") {
		return ofKeys(text)
	}
	if lacks := rights.OfS3(text); lacks != "" {
		return lacks
	}
	text = strings.ToLower(text)
	for _, row := range [][2]string{
		{"server gave HTTP response to HTTPS client", "delta.s3.endpoint does not speak TLS: write http://, or give " +
			"the port that does"},
		{"HTTP request to an HTTPS server", "delta.s3.endpoint speaks TLS: write https://"},
		{"malformed HTTP response", "delta.s3.endpoint may speak TLS: write https://"},
		{"InvalidAccessKeyId", "the store does not know delta.s3.access_key"},
		{"The access key ID you provided does not exist", "the store does not know delta.s3.access_key"},
		{"SignatureDoesNotMatch", "delta.s3.secret_key does not belong to delta.s3.access_key"},
		{"The request signature we calculated does not match", "delta.s3.secret_key does not belong to " +
			"delta.s3.access_key"},
		{"ExpiredToken", "the keys have ended: renew delta.s3.session_token, or have delta.s3.credentials renew them"},
		{"provided token has expired", "the keys have ended: renew delta.s3.session_token, or have " +
			"delta.s3.credentials renew them"},
		{"provided token is malformed", "delta.s3.session_token does not belong to delta.s3.access_key"},
		{"RequestTimeTooSkewed", "this machine's clock and the store's differ by more than a quarter of an hour"},
		{"difference between the request time and the", "this machine's clock and the store's differ by more than a " +
			"quarter of an hour"},
		{"NoSuchBucket", "delta.s3.bucket does not exist there"},
		{"The specified bucket does not exist", "delta.s3.bucket does not exist there"},
	} {
		if strings.Contains(text, strings.ToLower(row[0])) {
			return row[1]
		}
	}
	return ""
}
