--- Puts a suggestion that we show, or a piece of it, into the text.
local ghost = require('intract.ghost')
local servers = require('intract.servers')
local suggestions = require('intract.suggestion')

local M = {}

---@param suggestion intract.Suggestion
---@param text string
---@param replaces integer bytes behind the cursor
local function insert(suggestion, text, replaces)
  local line, col = unpack(vim.api.nvim_win_get_cursor(0))
  -- Setting this option, even to what it is, closes the undo block: `u` takes the suggestion back and not what was typed.
  vim.bo.undolevels = vim.bo.undolevels
  local lines = vim.split(text, '\n', { plain = true })
  vim.api.nvim_buf_set_text(suggestion.bufnr, line - 1, col, line - 1, col + replaces, lines)
  local start = #lines == 1 and col or 0
  vim.api.nvim_win_set_cursor(0, { line + #lines - 1, start + #lines[#lines] })
end

--- Tells the server, by the command that came with the suggestion.
---
---@param suggestion intract.Suggestion
local function report(suggestion)
  local client = vim.lsp.get_client_by_id(suggestion.client_id)
  local command = suggestion.command
  if client and command then
    local params = { command = command.command, arguments = command.arguments }
    -- Nobody waits for the answer; an error in it would be about the server's own counting.
    servers.request(client, 'workspace/executeCommand', params, function() end, suggestion.bufnr)
  end
end

--- Accepts all of the suggestion that is shown, or its next word or line; the rest of it stays.
---
---@param piece intract.Piece
---@return boolean accepted
function M.now(piece)
  local suggestion, typed = ghost.current()
  if not suggestion or not typed then
    return false
  end
  local rest = suggestion.text:sub(#typed + 1)
  local taken = suggestions.piece(rest, piece)
  local _, col = unpack(vim.api.nvim_win_get_cursor(0))
  local replaced = vim.api.nvim_get_current_line():sub(col + 1, col + suggestion.replaces)
  local left = rest:sub(#taken + 1)
  if left == '' or left == replaced then
    -- Nothing is left, or only what stands there already.
    ghost.hide()
    insert(suggestion, rest, suggestion.replaces)
    report(suggestion)
  else
    insert(suggestion, taken, 0)
    ghost.follow()
  end
  return true
end

--- Accepts it as soon as the mapping that is running has ended, before any key that was typed after it.
---
--- An expression mapping may not change text, so it is done by a command that is put in front of what was typed ahead.
---
---@param piece intract.Piece
---@return boolean accepted
function M.from_mapping(piece)
  if not ghost.current() then
    return false
  end
  local keys = vim.keycode(('<Cmd>lua require("intract.accept").now(%q)<CR>'):format(piece))
  vim.api.nvim_feedkeys(keys, 'in', false)
  return true
end

return M
