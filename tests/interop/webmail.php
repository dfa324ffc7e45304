<?php
// SPDX-License-Identifier: ISC
// Run the poppassd driver of Roundcube or Horde as these would, without them.
//
//   php webmail.php roundcube|horde DRIVER HOST PORT    user, old, new on three lines
//
// What of the program is around a driver is played here. One line of JSON says how it
// ended: a code and the text that is shown to people.

error_reporting(0);
[, $program, $driver, $host, $port] = $argv;
$lines = explode("\n", stream_get_contents(STDIN));
[$user, $old, $new] = $lines;

function told($code, $message = '')
{
    echo json_encode(['code' => $code, 'message' => $message]), "\n";
    exit(0);
}

if (!function_exists('_')) {
    function _($text)
    {
        return $text;
    }
}

// Roundcube's password plugin.
const PASSWORD_CRYPT_ERROR = 1;
const PASSWORD_ERROR = 2;
const PASSWORD_CONNECT_ERROR = 3;
const PASSWORD_SUCCESS = 0;

class rcmail
{
    public $config;

    public static function get_instance()
    {
        $made = new rcmail();
        $made->config = $made;
        return $made;
    }

    public function get($name, $default)
    {
        global $host, $port;
        $set = ['password_pop_host' => $host, 'password_pop_port' => $port];
        return $set[$name] ?? $default;
    }
}

class rcube_utils
{
    public static function parse_host($name)
    {
        return $name;
    }
}

// Horde's Passwd.
class Passwd_Exception extends Exception
{
}

abstract class Passwd_Driver
{
    protected $_params;

    public function __construct($params = [])
    {
        $this->_params = $params;
    }

    public function changePassword($user, $old, $new)
    {
        $this->_changePassword($user, $old, $new);
    }
}

if ($program === 'roundcube') {
    require_once 'Net/Socket.php';
    require_once $driver;
    $result = (new rcube_poppassd_password())->save($old, $new, $user);
    if (is_array($result)) {
        told($result['code'], $result['message']);
    }
    told($result);
}
require_once $driver;
$made = new Passwd_Driver_Poppassd(['host' => $host, 'port' => (int) $port]);
try {
    $made->changePassword($user, $old, $new);
} catch (Passwd_Exception $why) {
    told(1, $why->getMessage());
}
told(0);
