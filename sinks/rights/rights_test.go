package rights

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A refusal names neither topic nor right; the operator needs both, and the command.
func TestExplain(t *testing.T) {
	refused := fmt.Errorf("kafka: metadata: %w", kerr.TopicAuthorizationFailed)
	err := Explain(refused, Group("Read", "g"), Topic("Write", "web_clicks.dlq"))
	for _, want := range []string{`the right Write on topic "web_clicks.dlq"`,
		"--operation Write --topic 'web_clicks.dlq'", "TOPIC_AUTHORIZATION_FAILED"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if !errors.Is(err, kerr.TopicAuthorizationFailed) || !Missing(err) {
		t.Error("the refusal is not wrapped")
	}
	// The first one who knows says it.
	if again := Explain(fmt.Errorf("more: %w", err), Topic("Read", "other")); strings.Contains(again.Error(), "other") {
		t.Errorf("explained twice: %v", again)
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{kerr.GroupAuthorizationFailed, `Read on group "g"`},
		{kerr.ClusterAuthorizationFailed, "IdempotentWrite on the cluster"},
		{kerr.TransactionalIDAuthorizationFailed, "--operation Write --transactional-id 'deckle/t.dlq.review'"},
	} {
		got := Explain(tc.err, TransactionalID("Write", "deckle/t.dlq.review"), Topic("Read", "t"),
			Group("Read", "g"), Cluster("IdempotentWrite"))
		if !strings.Contains(got.Error(), tc.want) {
			t.Errorf("%v: no %q", got, tc.want)
		}
	}
	other := errors.New("no route to host")
	if Explain(other, Topic("Read", "t")) != other || Missing(other) || Explain(nil, Topic("Read", "t")) != nil {
		t.Error("another error is changed")
	}
}

// The right that S3 does not name is that of the request which it refused.
func TestOfS3(t *testing.T) {
	for text, want := range map[string]string{
		"store: probe of s3: delete: store: delete deckle-probe-1: Access Denied.": "s3:DeleteObject",
		"store: put a: access denied":                 "s3:PutObject",
		"store: list a: Access Denied.":               "s3:ListBucket",
		"store: put a: the bucket does not exist":     "",
		"access denied for whoever asks for its keys": "",
	} {
		if got := OfS3(text); strings.Contains(got, "s3:") != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q in it", text, got, want)
		}
	}
}
