# A client of pgactor in Perl, written from protocols/README.md alone. It has no libraries but Perl's own: the frames of
# ZMTP 3.0 (section 14) and msgpack are made by hand, on a Unix socket.

use strict;
use warnings;
use utf8;
use Encode qw(decode_utf8 encode_utf8);
use IO::Socket::UNIX;
use JSON::PP ();

# --- msgpack. A plain scalar is a str; i, f, b and ext make the others. ---------------------------------------

sub i   { return bless [@_], 'Int' }
sub f   { return bless [@_], 'Float' }
sub b   { return bless [@_], 'Bool' }
sub ext { return bless [@_], 'Ext' }      # its type and its payload

sub packed {
    my ($value) = @_;
    return "\xc0" unless defined $value;
    my $kind = ref $value;
    return pack 'C q>', 0xd3, $value->[0] if $kind eq 'Int';
    return pack 'C d>', 0xcb, $value->[0] if $kind eq 'Float';
    return $value->[0] ? "\xc3" : "\xc2" if $kind eq 'Bool';
    return pack 'C N c a*', 0xc9, length $value->[1], @$value if $kind eq 'Ext';
    return pack('C N', 0xdd, scalar @$value) . join '', map { packed($_) } @$value if $kind eq 'ARRAY';
    my $text = encode_utf8($value);
    return pack 'C N a*', 0xdb, length $text, $text;
}

my %NUMBER = (
    0xca => [4, 'f>'], 0xcb => [8, 'd>'], 0xcc => [1, 'C'], 0xcd => [2, 'n'], 0xce => [4, 'N'], 0xcf => [8, 'Q>'],
    0xd0 => [1, 'c'],  0xd1 => [2, 's>'], 0xd2 => [4, 'l>'], 0xd3 => [8, 'q>'],
);
my %SIZE = (
    0xc4 => ['C', 'bin'],   0xc5 => ['n', 'bin'],   0xc6 => ['N', 'bin'], 0xc7 => ['C', 'ext'], 0xc8 => ['n', 'ext'],
    0xc9 => ['N', 'ext'],   0xd9 => ['C', 'str'],   0xda => ['n', 'str'], 0xdb => ['N', 'str'], 0xdc => ['n', 'array'],
    0xdd => ['N', 'array'], 0xde => ['n', 'map'],   0xdf => ['N', 'map'],
);

sub unpacked {                            # takes the first value off the bytes that are referred to
    my ($bytes) = @_;
    my $take = sub { return substr $$bytes, 0, $_[0], '' };
    my $first = ord $take->(1);
    return $first if $first <= 0x7f;
    return $first - 256 if $first >= 0xe0;
    return undef if $first == 0xc0;
    return $first == 0xc3 ? JSON::PP::true : JSON::PP::false if $first == 0xc2 || $first == 0xc3;
    if (my $number = $NUMBER{$first}) { return unpack $number->[1], $take->($number->[0]) }
    my ($size, $kind);
    if    ($first <= 0x8f) { ($size, $kind) = ($first & 0x0f, 'map') }
    elsif ($first <= 0x9f) { ($size, $kind) = ($first & 0x0f, 'array') }
    elsif ($first <= 0xbf) { ($size, $kind) = ($first & 0x1f, 'str') }
    elsif ($first >= 0xd4 && $first <= 0xd8) { ($size, $kind) = (1 << ($first - 0xd4), 'ext') }
    else {
        my ($letter, $name) = @{ $SIZE{$first} // die sprintf "not msgpack: %02x", $first };
        ($size, $kind) = (unpack($letter, $take->({ C => 1, n => 2, N => 4 }->{$letter})), $name);
    }
    return [map { unpacked($bytes) } 1 .. $size] if $kind eq 'array';
    return { map { (unpacked($bytes), unpacked($bytes)) } 1 .. $size } if $kind eq 'map';
    return ext(unpack('c', $take->(1)), $take->($size)) if $kind eq 'ext';
    return $kind eq 'str' ? decode_utf8($take->($size)) : $take->($size);
}

# --- ZMTP ------------------------------------------------------------------------------------------------------

package Link;

sub new {
    my ($class, $path) = @_;
    my $socket = IO::Socket::UNIX->new(Peer => $path) or die "$path: $!";
    my $self = bless { socket => $socket }, $class;
    $self->put(pack 'C x8 C C C a20 C x31', 0xff, 0x7f, 3, 0, 'NULL', 0);
    my $greeting = $self->get(64);
    die 'not ZMTP 3' unless $greeting =~ /^\xff.{8}\x7f\x03/s;
    my $ready = pack 'C/a* C/a* N/a* C/a* N/a*', 'READY', 'Socket-Type', 'DEALER', 'Identity', '';
    $self->put(pack 'C C/a*', 0x04, $ready);
    return $self;
}

sub put {
    my ($self, $bytes) = @_;
    while (length $bytes) {
        my $written = syswrite $self->{socket}, $bytes;
        die "the link is lost: $!" unless defined $written;
        substr $bytes, 0, $written, '';
    }
    return;
}

sub get {
    my ($self, $size) = @_;
    my $bytes = '';
    while (length $bytes < $size) {
        sysread $self->{socket}, $bytes, $size - length $bytes, length $bytes or die 'the link is lost';
    }
    return $bytes;
}

sub send_frame {
    my ($self, $frame) = @_;
    return $self->put((length $frame < 256 ? pack 'C C', 0, length $frame : pack 'C Q>', 2, length $frame) . $frame);
}

sub frame {                               # the next one
    my ($self) = @_;
    while (1) {
        my $flags = ord $self->get(1);
        my $body = $self->get($flags & 2 ? unpack 'Q>', $self->get(8) : ord $self->get(1));
        return $body unless $flags & 4;
        $self->put(pack 'C C/a*', 4, "\x04PONG" . substr $body, 7) if $body =~ /^\x04PING/;
    }
}

# --- the dialogue ----------------------------------------------------------------------------------------------

package Client;

sub new {
    my ($class, $path, $label) = @_;
    my $self = bless { link => Link->new($path), id => 0, shapes => {}, told => [], replies => {} }, $class;
    $self->tell(['hello', main::i(1), $label]);
    my ($welcome) = @{ $self->read };
    die "not welcome: @$welcome" unless $welcome->[0] eq 'welcome';
    $self->{welcome} = $welcome;
    return $self;
}

sub tell {                                # any number of messages, in one frame
    my ($self, @messages) = @_;
    return $self->{link}->send_frame(main::packed(\@messages));
}

sub read {
    my ($self) = @_;
    my $frame = $self->{link}->frame;
    return main::unpacked(\$frame);
}

sub ask {                                 # any number of [tag, fields behind the timeout], in one frame; their replies
    my ($self, @requests) = @_;
    my @ids = map { ++$self->{id} } @requests;
    my $epoch = main::i($self->{welcome}[2]);
    my @messages = map { my ($tag, @fields) = @{ $requests[$_] }; [$tag, main::i($ids[$_]), $epoch, main::f(10), @fields] }
        0 .. $#requests;
    $self->tell(@messages);
    while (grep { !$self->{replies}{$_} } @ids) {
        $self->take($_) for @{ $self->read };
    }
    my @replies = map { delete $self->{replies}{$_} } @ids;
    return wantarray ? @replies : $replies[0];
}

sub take {
    my ($self, $message) = @_;
    my ($tag, $id) = @$message;
    return if $tag eq 'lease_ended';
    die "the supervisor did not understand: $message->[3]" if $tag eq 'failed' && !defined $id;
    $self->learn($_) for $tag eq 'results' ? @{ $message->[2] } : $message;
    if ($tag eq 'part') { push @{ $self->{parts}{$id} }, @{ $message->[4] } }
    else {
        my $parts = delete $self->{parts}{$id};
        unshift @{ $message->[4] }, @$parts if $parts && $tag eq 'rows';
        $self->{replies}{$id} = $message;
    }
    return;
}

sub learn {                               # a shape, where it is told: first in, first out
    my ($self, $message) = @_;
    my ($tag, undef, $shape, $columns) = @$message;
    return unless ($tag eq 'rows' || $tag eq 'part') && $columns;
    $self->{shapes}{$shape} = $columns;
    push @{ $self->{told} }, $shape;
    delete $self->{shapes}{ shift @{ $self->{told} } } if @{ $self->{told} } > 1024;
    return;
}

sub columns { return $_[0]{shapes}{ $_[1][2] } }

package main;

1;
