package node

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/objects"
	"deckle/sim/testworld/sts"
	"deckle/state"
)

// keysThatEnd is a node whose lake takes keys that end after seconds.
type keysThatEnd struct {
	*cluster
	name   string
	sts    *sts.Server
	refuse func(s *sts.Server) // the next request for keys
	hint   string              // what is told then
	sent   int                 // records
}

func newKeysThatEnd(t *testing.T, name string, give *sts.Server, set func(url string, s3 *config.S3)) *keysThatEnd {
	k := &keysThatEnd{name: name, sts: give}
	give.Life, give.Role = 5*time.Second, "arn:aws:iam::123456789012:role/deckle"
	service := httptest.NewServer(give)
	t.Cleanup(service.Close)
	lake := httptest.NewServer(give.Guard(&objects.S3{Bucket: "lake"}))
	t.Cleanup(lake.Close)
	if name == "instance" {
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.URL)
	}
	k.cluster = newCluster(t, nodetest.NewBroker(t, 2), 1, func(cfg *config.Config) {
		s3 := &config.S3{Endpoint: lake.URL, Bucket: "lake", Credentials: name}
		set(service.URL, s3)
		cfg.Delta, cfg.ClickHouse = &config.Delta{RevisionInterval: 200 * time.Millisecond, S3: s3}, nil
	})
	k.realSinks = true
	k.start(0)
	return k
}

func (k *keysThatEnd) send() {
	k.b.Produce(nodetest.Record(int32(k.sent%2), fmt.Sprint("s", k.sent%2), k.sent))
	k.sent++
}

// wrong are the sinks that fail or have stopped, and why.
func (k *keysThatEnd) wrong() string {
	_, _, s := k.leader(0)
	var all []string
	for _, m := range []map[string]string{s.Failing, s.Stopped} {
		for part, why := range m {
			all = append(all, part+": "+why)
		}
	}
	return strings.Join(all, "; ")
}

func (k *keysThatEnd) written(t *testing.T) {
	t.Helper()
	nodetest.Until(t, k.name+": applied", func() bool { return k.sum(applied) == int64(k.sent) })
	nodetest.Until(t, k.name+": written by every sink", k.allAcked(state.SinkEvents, state.SinkSessions,
		state.SinkRevisions, state.SinkDeadLetter))
	nodetest.Until(t, k.name+": nothing fails", func() bool { return k.wrong() == "" })
}

// Keys of S3 that end after five seconds are renewed before they do, while records flow: the lake refuses no request,
// and no sink fails. If they cannot be had again, the condition says who refuses what, and by which key; once they can,
// everything goes on.
func TestKeysThatEnd(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_REGION",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	web := newKeysThatEnd(t, "web_identity", &sts.Server{Token: "one"}, func(url string, s3 *config.S3) {
		s3.STSEndpoint, s3.RoleARN = url, "arn:aws:iam::123456789012:role/deckle"
		s3.TokenFile = file("token", "one")
	})
	web.refuse = func(s *sts.Server) { s.Token = "two" }
	web.hint = "delta.s3.token_file"
	role := newKeysThatEnd(t, "assume_role", &sts.Server{AccessKey: "AKIA", SecretKey: "secret", ExternalID: "ext"},
		func(url string, s3 *config.S3) {
			s3.STSEndpoint, s3.RoleARN = url, "arn:aws:iam::123456789012:role/deckle"
			s3.ExternalID = "ext"
			s3.AccessKey = config.Secret{File: file("access", "AKIA")}
			s3.SecretKey = config.Secret{File: file("secret", "secret")}
		})
	role.refuse = func(s *sts.Server) { s.ExternalID = "another" }
	role.hint = "delta.s3.role_arn"
	machine := newKeysThatEnd(t, "instance", &sts.Server{}, func(string, *config.S3) {})
	machine.refuse = func(s *sts.Server) { s.Down = true }
	machine.hint = "503"
	all := []*keysThatEnd{web, role, machine}

	for end := time.Now().Add(16 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, k := range all {
			if k.send(); k.wrong() != "" {
				t.Fatalf("%s: %s", k.name, k.wrong())
			}
		}
	}
	for _, k := range all {
		k.written(t)
		st := k.sts.Stats()
		t.Logf("%s: %d keys, %d requests with them, used until %v before their end", k.name, st.Given, st.Requests,
			st.Least.Round(time.Millisecond))
		if len(st.Refused) > 0 || st.Given < 3 || st.Least < 500*time.Millisecond || st.Requests < 50 {
			t.Errorf("%s: %+v", k.name, st)
		}
		k.sts.Set(k.refuse)
	}
	for _, k := range all {
		var why string
		nodetest.Until(t, k.name+": keys cannot be had", func() bool {
			k.send()
			why = k.wrong()
			return strings.Contains(why, "delta.s3.credentials") && strings.Contains(why, k.name)
		})
		t.Logf("%s: %s", k.name, why)
		if !strings.Contains(why, k.hint) || strings.Contains(why, "lacks the right") {
			t.Errorf("%s: told %q, want %q", k.name, why, k.hint)
		}
	}
	file("token", "two")
	role.sts.Set(func(s *sts.Server) { s.ExternalID = "ext" })
	machine.sts.Set(func(s *sts.Server) { s.Down = false })
	for _, k := range all {
		k.written(t)
		if st := k.sts.Stats(); len(st.Refused) > 0 {
			t.Errorf("%s: requests were signed with keys that had ended: %v", k.name, st.Refused)
		}
	}
}
