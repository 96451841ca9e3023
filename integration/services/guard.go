package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// guardKafka writes the broker's certificate and returns the settings by which its listeners with TLS are guarded.
func (a *Authority) guardKafka(dir string) (string, error) {
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
	pair := filepath.Join(dir, "keystore.pem")
	if err := a.server("kafka", cert, key); err != nil {
		return "", err
	}
	var text []byte
	for _, f := range []string{key, cert} {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", fmt.Errorf("services: %w", err)
		}
		text = append(text, b...)
	}
	if err := os.WriteFile(pair, text, 0o600); err != nil {
		return "", fmt.Errorf("services: %w", err)
	}
	return fmt.Sprintf(`ssl.keystore.type=PEM
ssl.keystore.location=%s
sasl.enabled.mechanisms=SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
`, pair), nil
}

// SetPassword gives the account another password. Connections that there are stay.
func (k *Kafka) SetPassword(ctx context.Context, password string) error {
	k.Secure.set(password)
	return k.admin(func(adm *kadm.Client) error {
		done, err := adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{
			{User: k.Secure.User, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password},
		})
		if err == nil {
			err = done.Error()
		}
		return err
	})
}

// allow gives the account what it needs, and no more: to read the topic, and to make and write its dead letters.
func (k *Kafka) allow(ctx context.Context, topic string) error {
	who := "User:" + k.Secure.User
	of := func(topic string, ops ...kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Allow(who).AllowHosts("*").Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).
			Operations(ops...)
	}
	return k.admin(func(adm *kadm.Client) error {
		for _, b := range []*kadm.ACLBuilder{
			of(topic, kadm.OpRead, kadm.OpDescribeConfigs),
			of(topic+".dlq", kadm.OpRead, kadm.OpWrite, kadm.OpCreate, kadm.OpDescribeConfigs),
			kadm.NewACLs().Allow(who).AllowHosts("*").Groups("deckle-deckle").
				ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead),
		} {
			done, err := adm.CreateACLs(ctx, b)
			for _, r := range done {
				err = errors.Join(err, r.Err)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (k *Kafka) admin(do func(*kadm.Client) error) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	defer cl.Close()
	if err := do(kadm.NewClient(cl)); err != nil {
		return fmt.Errorf("services: kafka: %w", err)
	}
	return nil
}
