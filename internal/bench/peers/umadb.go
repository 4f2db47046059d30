package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

var umadbKind = Kind{Name: "umadb", Check: "no event with the stream's tag after the last one's position", Start: startUmaDB}

// umadbVersion is the version that is built.
const umadbVersion = "0.7.8"

// umadbPeer is UmaDB over gRPC. Its messages are written here field by field (umadb.v1, fields by number), so that the
// client costs as little as a generated one.
type umadbPeer struct {
	server *child
	conns  []*grpc.ClientConn // the clients share them
}

const umadbConnections = 4

func startUmaDB(ctx context.Context, dir string) (Peer, string, error) {
	program, err := umadbProgram()
	if err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	server, err := startChild(ctx, dir, port, nil, program, "--listen", loopback(port), "--db-path", filepath.Join(dir, "uma.db"))
	if err != nil {
		return nil, "", err
	}
	p := &umadbPeer{server: server}
	for range umadbConnections {
		conn, err := grpc.NewClient(loopback(port), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			return nil, "", errors.Join(fmt.Errorf("connect to umadb: %w", err), p.Close())
		}
		p.conns = append(p.conns, conn)
	}
	return p, umadbVersion, nil
}

// umadbProgram finds the server on PATH, or where -build puts it.
func umadbProgram() (string, error) {
	if program, err := exec.LookPath("umadb"); err == nil {
		return program, nil
	}
	root, err := umadbRoot()
	if err != nil {
		return "", err
	}
	program := filepath.Join(root, "bin", "umadb")
	if _, err := os.Stat(program); err != nil {
		return "", missing("go run . -build umadb (takes cargo, and minutes)")
	}
	return program, nil
}

func umadbRoot() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	return filepath.Join(cache, "tributary", "peers", "umadb-"+umadbVersion), nil
}

// buildUmaDB builds the server with cargo.
func buildUmaDB(ctx context.Context) error {
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return missing("cargo, see rustup.rs")
	}
	if _, err := exec.LookPath("protoc"); err != nil {
		return missing("apt-get install protobuf-compiler")
	}
	root, err := umadbRoot()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, cargo, "install", "umadb", "--version", umadbVersion, "--locked", "--root", root, "--jobs", strconv.Itoa(runtime.NumCPU()))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build umadb: %w", err)
	}
	return nil
}

// rawCodec passes messages on as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = b
	return nil
}

func (p *umadbPeer) conn(stream string) *grpc.ClientConn {
	return p.conns[int(stringHash(stream)%umadbConnections)]
}

func (p *umadbPeer) Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error) {
	tag := "stream:" + stream
	var request []byte
	for _, payload := range payloads {
		var event []byte
		event = protowire.AppendString(protowire.AppendTag(event, 1, protowire.BytesType), "bench.happened.v1")
		event = protowire.AppendString(protowire.AppendTag(event, 2, protowire.BytesType), tag)
		event = protowire.AppendBytes(protowire.AppendTag(event, 3, protowire.BytesType), payload)
		request = protowire.AppendBytes(protowire.AppendTag(request, 1, protowire.BytesType), event)
	}
	condition := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), umadbTagged(tag))
	if at.Version > 0 {
		condition = protowire.AppendVarint(protowire.AppendTag(condition, 2, protowire.VarintType), at.Position)
	}
	request = protowire.AppendBytes(protowire.AppendTag(request, 2, protowire.BytesType), condition)
	var answer []byte
	if err := p.conn(stream).Invoke(ctx, "/umadb.v1.DCB/Append", &request, &answer); err != nil {
		return at, fmt.Errorf("append to umadb: %w", err)
	}
	number, _, n := protowire.ConsumeTag(answer)
	if n < 0 || number != 1 {
		return at, fmt.Errorf("append to umadb: answer %x", answer)
	}
	position, m := protowire.ConsumeVarint(answer[n:])
	if m < 0 {
		return at, fmt.Errorf("append to umadb: answer %x", answer)
	}
	return Place{Version: at.Version + uint64(len(payloads)), Position: position}, nil
}

// umadbTagged returns the query for events with a tag.
func umadbTagged(tag string) []byte {
	item := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), tag)
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), item)
}

func (p *umadbPeer) Load(ctx context.Context, stream string) (int, error) {
	request := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), umadbTagged("stream:"+stream))
	return p.read(ctx, p.conn(stream), request)
}

func (p *umadbPeer) ReadAll(ctx context.Context) (int, error) {
	return p.read(ctx, p.conns[0], protowire.AppendVarint(protowire.AppendTag(nil, 6, protowire.VarintType), 1000))
}

func (p *umadbPeer) read(ctx context.Context, conn *grpc.ClientConn, request []byte) (int, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/umadb.v1.DCB/Read")
	if err != nil {
		return 0, fmt.Errorf("read from umadb: %w", err)
	}
	if err := errors.Join(stream.SendMsg(&request), stream.CloseSend()); err != nil {
		return 0, fmt.Errorf("read from umadb: %w", err)
	}
	events := 0
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); errors.Is(err, io.EOF) {
			return events, nil
		} else if err != nil {
			return events, fmt.Errorf("read from umadb: %w", err)
		}
		for len(answer) > 0 {
			number, kind, n := protowire.ConsumeTag(answer)
			if n < 0 {
				return events, fmt.Errorf("read from umadb: %w", protowire.ParseError(n))
			}
			if number == 1 {
				events++
			}
			m := protowire.ConsumeFieldValue(number, kind, answer[n:])
			if m < 0 {
				return events, fmt.Errorf("read from umadb: %w", protowire.ParseError(m))
			}
			answer = answer[n+m:]
		}
	}
}

func (p *umadbPeer) Close() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, p.server.stop())...)
}
