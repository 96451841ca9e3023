package clickhouse

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// Revision is the protocol's version that a Session speaks: below FeatureCustomSerialization, so that a block of the
// protocol and of the engine's Native format differ by the block info alone.
const Revision = 54453

// writeTimeout is how long a client may refuse to take its answer.
const writeTimeout = time.Minute

// Exception is an error that goes to the client as an exception.
type Exception struct {
	Code int
	Text string
}

// Error is the text of the exception.
func (e *Exception) Error() string { return e.Text }

func exception(code proto.Error, format string, args ...any) *Exception {
	return &Exception{int(code), fmt.Sprintf(format, args...)}
}

// Session is the server's half of one connection of the native protocol.
type Session struct {
	// Name goes into the hello.
	Name string
	// User and Password are compared with the client's; an empty User admits everybody.
	User, Password string
	// Execute runs a query: it may Send blocks, and for an INSERT it first sends the columns that it wants, without
	// rows, and then takes NextBlock until a block's End. An *Exception is sent to the client; any other error ends
	// the connection.
	Execute func(*Session, *proto.Query) error

	conn     net.Conn
	r        *proto.Reader
	buf      proto.Buffer
	w        *compress.Writer
	version  int
	database string
	compress bool
}

// Database is the one that the client has named in its hello.
func (s *Session) Database() string { return s.database }

// Serve answers the connection's queries until it ends, and returns why. It does not close it.
func (s *Session) Serve(c net.Conn) error {
	s.conn, s.r = c, proto.NewReader(c)
	if err := s.hello(); err != nil {
		return err
	}
	for {
		p, err := s.r.UVarInt()
		if err != nil {
			return err
		}
		switch proto.ClientCode(p) {
		case proto.ClientCodePing:
			proto.ServerCodePong.Encode(&s.buf)
			err = s.flush()
		case proto.ClientCodeQuery:
			err = s.query()
		case proto.ClientCodeData:
			// This still belongs to a query that has failed already: the client had not read the exception when it
			// sent it.
			_, _, err = s.block()
		case proto.ClientCodeCancel:
		default:
			return fmt.Errorf("packet %d is not supported", p)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Session) hello() error {
	p, err := s.r.UVarInt()
	if err != nil {
		return err
	}
	if proto.ClientCode(p) != proto.ClientCodeHello {
		return fmt.Errorf("packet %d where a hello was expected", p)
	}
	var h proto.ClientHello
	if err := h.Decode(s.r); err != nil {
		return err
	}
	s.version = min(h.ProtocolVersion, Revision)
	if s.User != "" && subtle.ConstantTimeCompare([]byte(h.User+"\x00"+h.Password),
		[]byte(s.User+"\x00"+s.Password)) != 1 {
		e := exception(proto.ErrAuthenticationFailed,
			"%s: Authentication failed: password is incorrect, or there is no user with such name.", h.User)
		return errors.Join(fmt.Errorf("authentication of %q failed", h.User), s.exception(e))
	}
	s.database = h.Database
	if s.database == "" {
		s.database = "default"
	}
	(&proto.ServerHello{
		Name: "ClickHouse", Major: 26, Minor: 5, Patch: 3, Revision: Revision, Timezone: "UTC", DisplayName: s.Name,
	}).EncodeAware(&s.buf, s.version)
	return s.flush()
}

func (s *Session) flush() error {
	defer s.buf.Reset()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(s.buf.Buf)
	return err
}

func (s *Session) exception(q *Exception) error {
	s.buf.Reset() // drop a half-written answer
	proto.ServerCodeException.Encode(&s.buf)
	e := proto.Exception{Code: proto.Error(q.Code), Name: "DB::Exception", Message: q.Text}
	e.EncodeAware(&s.buf, s.version)
	return s.flush()
}

// block reads one client data packet, its code already read.
func (s *Session) block() (proto.Block, proto.Results, error) {
	var d proto.ClientData
	if err := d.DecodeAware(s.r, s.version); err != nil {
		return proto.Block{}, nil, err
	}
	if s.compress {
		s.r.EnableCompression()
		defer s.r.DisableCompression()
	}
	var b proto.Block
	var res proto.Results
	err := b.DecodeBlock(s.r, s.version, res.Auto())
	return b, res, err
}

// errLeft is returned by NextBlock when the client has cancelled its query.
var errLeft = exception(proto.ErrQueryWasCancelled, "Query was cancelled")

// NextBlock reads the next block of the query that runs; a block's End is the last. A client that cancels is an
// *Exception.
func (s *Session) NextBlock() (proto.Block, proto.Results, error) {
	p, err := s.r.UVarInt()
	if err != nil {
		return proto.Block{}, nil, err
	}
	switch proto.ClientCode(p) {
	case proto.ClientCodeData:
		return s.block()
	case proto.ClientCodeCancel:
		return proto.Block{}, nil, errLeft
	default:
		return proto.Block{}, nil, fmt.Errorf("packet %d where data was expected", p)
	}
}

func (s *Session) query() error {
	var q proto.Query
	if err := q.DecodeAware(s.r, s.version); err != nil {
		return err
	}
	s.compress = q.Compression == proto.CompressionEnabled
	switch b, _, err := s.NextBlock(); {
	case errors.Is(err, errLeft):
		return nil
	case err != nil:
		return err
	case !b.End():
		return errors.New("external tables are not supported")
	}
	err := s.Execute(s, &q)
	if e, ok := errors.AsType[*Exception](err); ok {
		return s.exception(e)
	}
	if err != nil {
		return err
	}
	proto.ServerCodeEndOfStream.Encode(&s.buf)
	return s.flush()
}

// Send writes one data packet.
func (s *Session) Send(b proto.Block, in []proto.InputColumn) error {
	proto.ServerCodeData.Encode(&s.buf)
	s.buf.PutString("") // name of a temporary table: none
	start := len(s.buf.Buf)
	b.Info.BucketNum = -1
	if err := b.EncodeBlock(&s.buf, s.version, in); err != nil {
		return err
	}
	if s.compress {
		if s.w == nil {
			s.w = compress.NewWriter(compress.LevelZero, compress.LZ4)
		}
		// In frames, as a server does it: clients refuse a frame as large as a block may be.
		out := bytes.Clone(s.buf.Buf[:start])
		for part := range slices.Chunk(s.buf.Buf[start:], frameBytes) {
			if err := s.w.Compress(part); err != nil {
				return err
			}
			out = append(out, s.w.Data...)
		}
		s.buf.Buf = out
	}
	return s.flush()
}

// frameBytes is how much of a block is compressed at once: the server's max_compress_block_size.
const frameBytes = 1 << 20

// untilClosed reads and drops whatever still comes.
func (s *Session) untilClosed() error {
	for {
		if _, err := s.r.ReadByte(); err != nil {
			return err
		}
	}
}
