// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// A worthless contract that calls itself USDC and logs transfers of balances which nobody ever had, as the fakes do that
/// are sent to deposit addresses.
contract FakeUsd {
    string public constant name = "USD Coin";
    string public constant symbol = "USDC";
    uint8 public constant decimals = 6;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function balanceOf(address) external pure returns (uint256) {
        return 0;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        emit Transfer(msg.sender, to, value);
        return true;
    }
}
